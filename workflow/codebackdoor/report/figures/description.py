"""The description of a figure in words, for readers who cannot see it.

It is derived from the drawn axes, so every figure has one: each labeled series of each panel, with all values if they
are few, else with a summary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import BarContainer, Container, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.ticker import FuncFormatter

#: Maximum number of points of a series that is written out, and number of the highest bars that are.
_FEW = 4
#: Prefix of labels that only the description uses; matplotlib's own hidden labels do not begin with it.
_UNLISTED = "_ "


def describe(figure: Figure) -> str:
    """One sentence for each panel with data."""
    return " ".join(filter(None, map(_panel, (axes for axes in figure.axes if axes.get_visible()))))


def _panel(axes: Axes) -> str:
    values: dict[str, list[str]] = {}
    for label, text in (*_bars(axes), *_points(axes), *_outlines(axes)):
        values.setdefault(label, []).append(text)
    if not values:
        return ""
    title = " ".join(axes.get_title(loc="left").split())
    measured = axes.get_xlabel() if _names(axes.yaxis) else axes.get_ylabel() or axes.get_xlabel()
    head = ": ".join(filter(None, (title, " ".join(measured.split()))))
    series = "; ".join(f"{label} {', '.join(texts)}".strip() for label, texts in values.items())
    return f"{head}: {series}.".replace("\\$", "$").removeprefix(": ")


def _points(axes: Axes) -> Iterator[tuple[str, str]]:
    """Lines and points that have a label, each with its values."""
    names = _names(axes.yaxis)
    for label, line in _labeled(axes):
        xs, ys = (np.asarray(values, dtype=float).tolist() for values in (line.get_xdata(), line.get_ydata()))
        if line.get_transform() != axes.transData:
            yield label, f"at {_number(xs[0])}"
        elif len(xs) > max(_FEW, len(names)) and names:
            yield label, f"{len(xs)} values from {_number(min(xs))} to {_number(max(xs))}"
        elif names:
            yield label, ", ".join(f"{_nearest(names, y)} {_number(x)}" for x, y in zip(xs, ys, strict=True))
        elif len(xs) <= _FEW:
            yield label, ", ".join(f"{_number(y)} at {_number(x)}" for x, y in zip(xs, ys, strict=True))
        else:
            course = f"from {_number(ys[0])} at {_number(xs[0])} to {_number(ys[-1])} at {_number(xs[-1])}"
            yield label, f"{course} (lowest {_number(min(ys))}, highest {_number(max(ys))})"


def _labeled(axes: Axes) -> Iterator[tuple[str, Line2D]]:
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer) and (label := _label(container)):
            yield label, container[0]
    for line in axes.lines:
        if label := _label(line):
            yield label, line


def _bars(axes: Axes) -> Iterator[tuple[str, str]]:
    """The highest bars with their names on the axis; containers that exist only for the legend have no bars."""
    for container in axes.containers:
        if not isinstance(container, BarContainer):
            continue
        is_flat = container.orientation == "horizontal"
        names = _names(axes.yaxis if is_flat else axes.xaxis)
        bars = [
            (bar.get_width(), bar.get_y() + bar.get_height() / 2)
            if is_flat
            else (bar.get_height(), bar.get_x() + bar.get_width() / 2)
            for bar in container.patches
        ]
        highest = sorted((bar for bar in bars if bar[0]), key=lambda bar: -bar[0])[:_FEW]
        if highest:
            yield _label(container), ", ".join(f"{_nearest(names, at)} {_number(value)}" for value, at in highest)


def _outlines(axes: Axes) -> Iterator[tuple[str, str]]:
    """Histograms drawn as an outline, each with its peak."""
    for patch in axes.patches:
        if isinstance(patch, Polygon) and (label := _label(patch)):
            x, y = max(np.asarray(patch.get_xy(), dtype=float).tolist(), key=lambda point: point[1])
            yield label, f"peaks at {_number(x)} ({_number(y)})"


def _names(axis: Axis) -> list[str]:
    """The names on an axis of categories, in order; empty for a numeric axis."""
    formatter = axis.get_major_formatter()
    # ticks that are set with labels get a FuncFormatter from matplotlib
    names = [formatter(at) for at in axis.get_majorticklocs()] if isinstance(formatter, FuncFormatter) else []
    return [" ".join(name.split()) for name in names]


def _nearest(names: Sequence[str], at: float) -> str:
    """The name of the category at a position; on a numeric axis, the position itself."""
    return names[min(max(round(at), 0), len(names) - 1)] if names else f"{_number(at)}:"


def unlisted(label: str) -> str:
    """A label only for the description: legends omit labels that begin with an underscore."""
    return f"{_UNLISTED}{label}"


def _label(artist: Artist | Container) -> str:
    """The label of an artist; empty if it has none."""
    label = str(artist.get_label() or "").removeprefix(_UNLISTED)
    return "" if label.startswith("_") else label


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
