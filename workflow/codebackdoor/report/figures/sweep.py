"""What is left of the backdoor, and the clean metric, over a numeric setting of the defense.

EliBadCode's Figures 7 (``unlearning.rate``), 11 (``samples``), 12 (``top_k``) and 13 (``candidates``), and the
iterations of its RQ3. Reads ``metrics.json`` files; the setting is the experiment's ``swept``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from codebackdoor.config.experiments import cells
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.errors import UserError
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Scored, Study, anonymous, collect
from codebackdoor.report.figures import style
from codebackdoor.report.measured import Measure, measures, setting

#: Values further apart than this, as a factor, are drawn on a logarithmic axis.
_WIDE = 8
#: By victim, the scenario of each value of the setting.
Lines = Mapping[Scenario, Mapping[float, Scenario]]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``metrics.json`` files."""
    swept = str(study.experiment.swept)
    lines = variants(study, swept)
    if not lines:
        raise UserError(f"experiments.{study.name}.swept: no defense in the grid has a number as {swept!r}")
    scored = collect(study, inputs)
    datasets = list(dict.fromkeys(one.dataset for one in lines))
    with style.drawing(9.2, 2.5 * len(datasets) + 0.3 + 0.22 * len(lines)) as figure:
        grid = figure.subplots(len(datasets), 3, squeeze=False)
        for row, dataset in zip(grid, datasets, strict=True):
            shown = measures(study.task(dataset))
            for axes, measure in zip(row, shown, strict=False):
                for index, (victim, own) in enumerate(lines.items()):
                    if victim.dataset == dataset:
                        _line(axes, scored, measure, victim, own, index)
                _dress(axes, measure, swept, [value for own in lines.values() for value in own])
            row[0].set_title(labels.word(dataset))
            for axes in row[len(shown) :]:
                axes.set_visible(False)
        handles = {labels.group(victim): index for index, victim in enumerate(lines)}
        marks = [_mark(grid[0][0], index) for index in handles.values()]
        figure.legend(marks, list(handles), loc="outside lower center", ncols=1 if len(handles) < 3 else 2)
        style.save(figure, out, sizes.sentence(study))


def variants(study: Study, swept: str) -> Lines:
    """By victim and value, the scenarios whose elimination or purification has the setting."""
    found: dict[Scenario, dict[float, Scenario]] = {}
    for one in dict.fromkeys(anonymous(one) for one in cells(study.experiment) if one.attack != NONE):
        for section, name in (("eliminations", one.elimination), ("purifications", one.purification)):
            value = None if name == NONE else setting(study.variant(section, name), swept)
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(one.undefended(), {})[value] = one
    return {victim: dict(sorted(own.items())) for victim, own in found.items()}


def _line(
    axes: Axes, scored: Scored, measure: Measure, victim: Scenario, own: Mapping[float, Scenario], index: int
) -> None:
    colour = style.CYCLE[index % len(style.CYCLE)]
    known = {value: cell for value, one in own.items() if (cell := measure.cell(scored, one)) is not None}
    if known:
        values = [100 * (cell.value or 0.0) for cell in known.values()]
        spread = [
            [100 * _distance(cell.value, end) for cell, end in zip(known.values(), ends, strict=True)]
            for ends in ([cell.low for cell in known.values()], [cell.high for cell in known.values()])
        ]
        axes.errorbar(
            list(known), values, yerr=spread, color=colour, marker=style.MARKERS[index % len(style.MARKERS)],
            markersize=4.5, capsize=2, elinewidth=0.8,
        )  # fmt: skip
    floors = {value: cell for value, one in own.items() if (cell := measure.floor_of(scored, one)) is not None}
    axes.plot(list(floors), [100 * (cell.value or 0.0) for cell in floors.values()], ":", color=colour, linewidth=1.2)
    before = measure.cell(scored, victim)
    if not measure.triggered and before is not None:
        axes.axhline(100 * (before.value or 0.0), color=colour, linestyle="--", linewidth=0.9)


def _distance(value: float | None, end: float | None) -> float:
    return 0.0 if value is None or end is None else abs(end - value)


def _dress(axes: Axes, measure: Measure, swept: str, values: Sequence[float]) -> None:
    ticks = sorted(set(values))
    if ticks[0] > 0 and ticks[-1] / ticks[0] > _WIDE:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
    axes.set_xlabel(swept.replace("_", " ").replace(".", ", "))
    axes.set_ylabel(measure.head)
    if measure.triggered:
        axes.set_ylim(-4, 104)


def _mark(axes: Axes, index: int) -> Artist:
    colour, marker = style.CYCLE[index % len(style.CYCLE)], style.MARKERS[index % len(style.MARKERS)]
    (line,) = axes.plot([], [], color=colour, marker=marker, markersize=4.5)
    return line
