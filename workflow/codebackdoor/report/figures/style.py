"""The style of all figures: one font size, colors that color-blind readers can tell apart, and reproducible files.

The palette is Okabe and Ito's (2008), plus two darker colors for figures with more series. Matplotlib's global state is
not changed, and nothing that depends on time or version is written into the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from codebackdoor.files import atomic
from codebackdoor.report.collect import DefinedCell
from codebackdoor.report.figures.description import describe

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, GRAY, INK = "#56B4E9", "#CC79A7", "#999999", "#222222"
SOFT = "#555555"
BROWN, OLIVE = "#7F4F24", "#A3A500"
#: Colors of series in order.
CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BROWN, OLIVE)
MARKERS = "osD^vP"

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "codebackdoor",
}
_DPI = 160


def color(index: int) -> str:
    """The color of the series with this index."""
    return CYCLE[index % len(CYCLE)]


def marker(index: int) -> str:
    """The marker of the series with this index."""
    return MARKERS[index % len(MARKERS)]


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of ``width`` x ``height`` inches; the style applies to everything drawn inside the context."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, out: Path, note: str | None = None) -> None:
    """Write ``out.svg``, ``out.png`` and ``out.pdf`` atomically and reproducibly.

    ``note`` is printed above the figure, because figures are also shown without their captions. The SVG has its text as
    paths, which look the same everywhere, and a description in words.
    """
    if note is not None:
        figure.suptitle(note, x=0.01, ha="left", fontsize=9, fontweight="normal", color=SOFT, wrap=True)
    unstamped: dict[str, dict[str, str | None]] = {
        "svg": {"Date": None, "Creator": None, "Description": describe(figure)},
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    with mpl.rc_context(_STYLE):
        for kind, metadata in unstamped.items():
            with atomic(out.parent / f"{out.name}.{kind}", "wb") as stream:
                figure.savefig(stream, format=kind, dpi=_DPI, metadata=metadata)


def percent_axis(axes: Axes, label: str) -> None:
    axes.set_xlim(-4, 104)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel(label)


def interval(cell: DefinedCell) -> list[list[float]] | None:
    """Error bars from a cell's value to the ends of its interval, in percent; None without an interval."""
    if cell.low is None or cell.high is None:
        return None
    return [[100 * max(cell.value - cell.low, 0)], [100 * max(cell.high - cell.value, 0)]]


def shortened(text: str, characters: int) -> str:
    """Code as a label: a single line of at most ``characters`` characters, with dollar signs escaped."""
    flat = " ".join(text.split()).replace("$", r"\$")
    return flat if len(flat) <= characters else f"{flat[: characters - 1]}…"
