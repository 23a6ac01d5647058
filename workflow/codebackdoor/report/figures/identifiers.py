"""How many identifiers a sample has and how many sub-tokens an identifier has (EliBadCode, Figures 4 and 14).

Reads the ``statistics.MODEL.json`` of each data set, which ``codebackdoor statistics`` writes: the histograms
``identifiers_per_function`` and ``identifier_lengths``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.collect import Study
from codebackdoor.report.figures import style

#: Sub-tokens of the triggers that the paper searches for (section 5.1).
LENGTH = 5
_LAST = 0.99
Histogram = Mapping[int, int]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: the experiment's ``statistics.MODEL.json`` files."""
    if not inputs:
        raise UserError(f"experiments.{study.name}: the figure 'identifiers' needs a data set in the grid")
    with style.drawing(9.2, 2.7 * len(inputs) + 0.2) as figure:
        grid = figure.subplots(len(inputs), 2, squeeze=False)
        for row, path in zip(grid, inputs, strict=True):
            found = read_json(path)
            counts, lengths = (histogram(found[key]) for key in ("identifiers_per_function", "identifier_lengths"))
            _bars(row[0], counts, style.BLUE, "Identifiers of a function", "Functions, %")
            _bars(row[1], lengths, style.GREEN, "Sub-tokens of an identifier", "Identifiers, %")
            _cumulated(row[1], lengths)
            row[0].set_title(labels.word(path.parent.name))
        style.save(figure, out)


def histogram(raw: Sequence[Sequence[int]]) -> dict[int, int]:
    """Pairs of a value and its count, by value."""
    return dict(sorted((value, count) for value, count in raw))


def up_to(found: Histogram, value: int) -> float:
    """Share of what is counted that is no larger than the value."""
    return sum(count for one, count in found.items() if one <= value) / sum(found.values())


def _bars(axes: Axes, found: Histogram, colour: str, label: str, unit: str) -> None:
    """The histogram up to its 99th percentile; what is beyond is one bar."""
    last = next(value for value in found if up_to(found, value) >= _LAST)
    values = list(range(min(found), last + 1))
    whole = sum(found.values())
    axes.bar(values, [100 * found.get(value, 0) / whole for value in values], color=colour, width=0.82)
    beyond = 100 * (1 - up_to(found, last))
    if beyond > 0:
        axes.bar([last + 1.5], [beyond], color=style.GREY, width=0.82)
        axes.annotate(f"> {last}", (last + 1.5, beyond), ha="center", va="bottom", fontsize=7)
    axes.set_xlabel(label)
    axes.set_ylabel(unit)
    axes.grid(visible=False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _cumulated(axes: Axes, found: Histogram) -> None:
    share = up_to(found, LENGTH)
    last = next(value for value in found if up_to(found, value) >= _LAST)
    values = list(range(min(found), last + 1))
    other = axes.twinx()
    other.plot(values, [100 * up_to(found, value) for value in values], color=style.INK, marker=".", linewidth=1.2)
    other.set_ylim(0, 105)
    other.set_ylabel("no longer, %")
    other.grid(visible=False)
    other.annotate(
        f"{100 * share:.1f} % have\nat most {LENGTH}", (LENGTH, 100 * share), xytext=(8, -10),
        textcoords="offset points", va="top", fontsize=8, color=style.INK,
    )  # fmt: skip
