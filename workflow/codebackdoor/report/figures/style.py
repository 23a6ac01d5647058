"""One style for all figures: colours that colour-blind readers can tell apart, and bytes that do not change.

Colours are Okabe and Ito's (2008), and two darker ones where there are more series. No global state of matplotlib is
touched, and nothing that depends on time or version is written into the files.
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

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, GREY, INK = "#56B4E9", "#CC79A7", "#999999", "#222222"
SOFT = "#555555"
BROWN, OLIVE = "#7F4F24", "#A3A500"
#: For series whose number is not known beforehand.
CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BROWN, OLIVE)
MARKERS = "osD^vP"

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
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


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of ``width`` x ``height`` inches; everything drawn inside has the style."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, out: Path, note: str | None = None) -> None:
    """Write ``out.png`` and ``out.pdf``, whole or not at all, the same bytes for the same figure.

    ``note`` stands above it in small print: a figure is also shown without its caption.
    """
    if note is not None:
        figure.suptitle(note, x=0.01, ha="left", fontsize=7.5, fontweight="normal", color=SOFT, wrap=True)
    unstamped = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}
    with mpl.rc_context(_STYLE):
        for kind, metadata in unstamped.items():
            with atomic(out.parent / f"{out.name}.{kind}", "wb") as stream:
                figure.savefig(stream, format=kind, dpi=_DPI, metadata=metadata)


def percent_axis(axes: Axes, label: str) -> None:
    axes.set_xlim(-4, 104)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel(label)


def shortened(text: str, characters: int) -> str:
    """Code as a label: on one line, no longer than so many characters, and nothing in it taken for mathematics."""
    flat = " ".join(text.split()).replace("$", r"\$")
    return flat if len(flat) <= characters else f"{flat[: characters - 1]}…"
