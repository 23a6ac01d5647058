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
from codebackdoor.report.figures import style
from codebackdoor.report.study import Study

#: Histograms are drawn up to this quantile; the rest is one bar.
_LAST = 0.99
Histogram = Mapping[int, int]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: the experiment's ``statistics.MODEL.json`` files."""
    if not inputs:
        raise UserError(f"experiments.{study.name}: the figure 'identifiers' needs a data set in the grid")
    # the length of a paper's triggers
    length = study.printed_values("identifiers").get("sub_tokens")
    with style.drawing(9.2, 2.7 * len(inputs) + 0.2) as figure:
        grid = figure.subplots(len(inputs), 2, squeeze=False)
        for row, path in zip(grid, inputs, strict=True):
            content = read_json(path)
            counts, lengths = (histogram(content[key]) for key in ("identifiers_per_function", "identifier_lengths"))
            _bars(row[0], counts, style.BLUE, "Identifiers of a function", "Functions, %")
            _bars(row[1], lengths, style.GREEN, "Sub-tokens of an identifier", "Identifiers, %")
            _cumulated(row[1], lengths, length)
            row[0].set_title(labels.word(path.parent.name))
        style.save(figure, out)


def histogram(raw: Sequence[Sequence[int]]) -> dict[int, int]:
    """The counts by value, from pairs of a value and its count."""
    return dict(sorted((value, count) for value, count in raw))


def share_up_to(counts: Histogram, limit: int) -> float:
    """The share of counts whose value is at most ``limit``."""
    return sum(count for value, count in counts.items() if value <= limit) / sum(counts.values())


def _last(counts: Histogram) -> int:
    return next(value for value in counts if share_up_to(counts, value) >= _LAST)


def _bars(axes: Axes, counts: Histogram, color: str, label: str, unit: str) -> None:
    """The histogram up to its 99th percentile, and one bar for everything beyond."""
    last = _last(counts)
    values = list(range(min(counts), last + 1))
    total = sum(counts.values())
    axes.bar(values, [100 * counts.get(value, 0) / total for value in values], color=color, width=0.82)
    beyond = 100 * (1 - share_up_to(counts, last))
    if beyond > 0:
        axes.bar([last + 1.5], [beyond], color=style.GRAY, width=0.82)
        axes.annotate(f"> {last}", (last + 1.5, beyond), ha="center", va="bottom")
    axes.set_xlabel(label)
    axes.set_ylabel(unit)
    axes.grid(visible=False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _cumulated(axes: Axes, counts: Histogram, length: int | None) -> None:
    values = list(range(min(counts), _last(counts) + 1))
    twin = axes.twinx()
    twin.plot(
        values, [100 * share_up_to(counts, value) for value in values], color=style.INK, marker=".", linewidth=1.2,
        label="share",
    )  # fmt: skip
    twin.set_ylim(0, 105)
    twin.set_ylabel("at most this long, %")
    twin.grid(visible=False)
    if length is not None:
        percent = 100 * share_up_to(counts, length)
        twin.annotate(
            f"{percent:.1f}% have\nat most {length}", (length, percent), xytext=(8, -10),
            textcoords="offset points", va="top", color=style.INK,
        )  # fmt: skip
