"""What a figure shows, in words: the text for readers who do not see it.

It is read off the drawn axes, so that every figure has one: each labeled series of each panel, with its values where
they are few and with its course where they are many.
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

#: A series of at most this many points is written out; of bars, the highest ones are.
_FEW = 4
#: What matplotlib's own labels of unlabeled artists do not begin with.
_UNLISTED = "_ "
#: A series: its label, and its points.
_Series = tuple[str, Sequence[float], Sequence[float]]


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
    head = ": ".join(filter(None, (title, measured)))
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
    """The highest bars with the names on their axis; a container that only feeds the legend has none."""
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
    """Histograms that are drawn as an outline, each with its peak."""
    for patch in axes.patches:
        if isinstance(patch, Polygon) and (label := _label(patch)):
            x, y = max(np.asarray(patch.get_xy(), dtype=float).tolist(), key=lambda point: point[1])
            yield label, f"peaks at {_number(x)} ({_number(y)})"


def _names(axis: Axis) -> list[str]:
    """The names at an axis of categories, in their order; empty for an axis of numbers."""
    formatter = axis.get_major_formatter()
    # what matplotlib makes of ticks that are set with their labels
    names = [formatter(at) for at in axis.get_majorticklocs()] if isinstance(formatter, FuncFormatter) else []
    return [" ".join(name.split()) for name in names]


def _nearest(names: Sequence[str], at: float) -> str:
    """The name of the category at a position; the position itself on an axis of numbers."""
    return names[min(max(round(at), 0), len(names) - 1)] if names else f"{_number(at)}:"


def unlisted(label: str) -> str:
    """A label for the description alone: legends leave out labels that begin with an underscore."""
    return f"{_UNLISTED}{label}"


def _label(artist: Artist | Container) -> str:
    """The label of what is drawn, if it was given one."""
    label = str(artist.get_label() or "").removeprefix(_UNLISTED)
    return "" if label.startswith("_") else label


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
