"""Unlearning of all parameters against unlearning of the last layer alone (EliBadCode, Figure 8).

Reads ``metrics.json`` files of eliminations that differ in ``layers``, and of the undefended victims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from codebackdoor.config.experiments import setting
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.errors import UserError
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Results, collect
from codebackdoor.report.figures import style
from codebackdoor.report.figures.data import PlottedMetric, plotted_metrics
from codebackdoor.report.figures.description import unlisted
from codebackdoor.report.study import Study, attacked

_BARS = {
    "none": ("undefended", style.GRAY),
    "all": ("all parameters", style.ORANGE),
    "last": ("last layer", style.BLUE),
}


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``metrics.json`` files."""
    by_victim = by_layers(study)
    if not by_victim:
        raise UserError(f"experiments.{study.name}: the figure 'layers' needs eliminations with layers: all and last")
    results = collect(study, inputs)
    datasets = list(dict.fromkeys(victim.dataset for victim in by_victim))
    with style.drawing(9.6, 2.9 * len(datasets) + 0.5) as figure:
        grid = figure.subplots(len(datasets), 3, squeeze=False)
        for row, dataset in zip(grid, datasets, strict=True):
            bars = {victim: scenarios for victim, scenarios in by_victim.items() if victim.dataset == dataset}
            metrics = plotted_metrics(study, dataset)
            for axes, metric in zip(row, metrics, strict=False):
                _panel(axes, results, metric, bars)
            row[0].set_title(labels.word(dataset))
            for axes in row[len(metrics) :]:
                axes.set_visible(False)
        handles, names = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        style.save(figure, out, sizes.sentence(study))


def by_layers(study: Study) -> dict[Scenario, dict[str, Scenario]]:
    """For each victim, the undefended scenario and the eliminations, by the layers that they train."""
    by_victim: dict[Scenario, dict[str, Scenario]] = {}
    for scenario in attacked(study.experiment):
        variant = {} if scenario.elimination == NONE else study.variant("eliminations", scenario.elimination)
        layers = setting(variant, "unlearning.layers") or setting(variant, "layers")
        if layers in _BARS and scenario.purification == NONE:
            by_victim.setdefault(scenario.undefended(), {"none": scenario.undefended()})[layers] = scenario
    return by_victim


def _panel(
    axes: Axes, results: Results, metric: PlottedMetric, by_victim: Mapping[Scenario, Mapping[str, Scenario]]
) -> None:
    width = 0.8 / len(_BARS)
    for index, (layers, (name, color)) in enumerate(_BARS.items()):
        for number, scenarios in enumerate(by_victim.values()):
            cell = metric.cell(results, scenarios[layers]) if layers in scenarios else None
            if cell is None:
                continue
            x = number - 0.4 + (index + 0.5) * width
            height, interval = 100 * cell.value, style.interval(cell)
            axes.bar(
                [x], [height], 0.92 * width, color=color, yerr=interval, ecolor=style.INK, capsize=2,
                label=unlisted(name),
            )  # fmt: skip
            floor = metric.floor_cell(results, scenarios[layers])
            if floor is not None:
                level = 100 * floor.value
                axes.plot([x - width / 2, x + width / 2], [level, level], color=style.INK, linewidth=2)
        axes.bar([0], [0], color=color, label=name)
    names = [f"{labels.word(victim.model)}\n{labels.attack(victim)}" for victim in by_victim]
    axes.set_xticks(range(len(by_victim)), names)
    axes.set_xlim(-0.6, len(by_victim) - 0.4)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(metric.axis)
    if metric.triggered:
        axes.set_ylim(0, 105)
