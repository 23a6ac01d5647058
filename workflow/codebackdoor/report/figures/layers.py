"""Unlearning of all parameters against unlearning of the last layer alone (EliBadCode, Figure 8).

Reads ``metrics.json`` files of eliminations that differ in ``layers``, and of the undefended victims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from codebackdoor.config.experiments import cells
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.errors import UserError
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Scored, Study, anonymous, collect
from codebackdoor.report.figures import style
from codebackdoor.report.measured import Measure, measures, setting

_BARS = {
    "none": ("undefended", style.GREY),
    "all": ("all parameters", style.ORANGE),
    "last": ("last layer", style.BLUE),
}


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``metrics.json`` files."""
    found = by_layers(study)
    if not found:
        raise UserError(f"experiments.{study.name}: the figure 'layers' needs eliminations with layers: all and last")
    scored = collect(study, inputs)
    datasets = list(dict.fromkeys(one.dataset for one in found))
    with style.drawing(9.6, 2.9 * len(datasets) + 0.5) as figure:
        grid = figure.subplots(len(datasets), 3, squeeze=False)
        for row, dataset in zip(grid, datasets, strict=True):
            own = {victim: bars for victim, bars in found.items() if victim.dataset == dataset}
            shown = measures(study.task(dataset))
            for axes, measure in zip(row, shown, strict=False):
                _panel(axes, scored, measure, own)
            row[0].set_title(labels.word(dataset))
            for axes in row[len(shown) :]:
                axes.set_visible(False)
        handles, names = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        style.save(figure, out, sizes.sentence(study))


def by_layers(study: Study) -> dict[Scenario, dict[str, Scenario]]:
    """By victim: its undefended scenario and those of its eliminations, by the layers that learn."""
    found: dict[Scenario, dict[str, Scenario]] = {}
    for one in dict.fromkeys(anonymous(one) for one in cells(study.experiment) if one.attack != NONE):
        variant = {} if one.elimination == NONE else study.variant("eliminations", one.elimination)
        layers = setting(variant, "unlearning.layers") or setting(variant, "layers")
        if layers in _BARS and one.purification == NONE:
            found.setdefault(one.undefended(), {"none": one.undefended()})[layers] = one
    return found


def _panel(axes: Axes, scored: Scored, measure: Measure, found: Mapping[Scenario, Mapping[str, Scenario]]) -> None:
    width = 0.8 / len(_BARS)
    for index, (layers, (name, colour)) in enumerate(_BARS.items()):
        for place, own in enumerate(found.values()):
            cell = measure.cell(scored, own[layers]) if layers in own else None
            if cell is None:
                continue
            where = place - 0.4 + (index + 0.5) * width
            value = 100 * (cell.value or 0.0)
            spread = None
            if cell.low is not None and cell.high is not None:
                spread = [[max(value - 100 * cell.low, 0)], [max(100 * cell.high - value, 0)]]
            axes.bar([where], [value], 0.92 * width, color=colour, yerr=spread, ecolor=style.INK, capsize=2)
            floor = measure.floor_of(scored, own[layers])
            if floor is not None:
                level = 100 * (floor.value or 0.0)
                axes.plot([where - width / 2, where + width / 2], [level, level], color=style.INK, linewidth=2)
        axes.bar([0], [0], color=colour, label=name)
    axes.set_xticks(range(len(found)), [f"{labels.word(one.model)}\n{labels.attack(one)}" for one in found], fontsize=7)
    axes.set_xlim(-0.6, len(found) - 0.4)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(measure.head)
    if measure.triggered:
        axes.set_ylim(0, 105)
