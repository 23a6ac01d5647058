"""Clean metric and ASR (code search: ANR) after every epoch for each objective (DeCE, Figures 2 and 4).

Reads the ``history.json`` of victims, which is measured on the validation split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import AutoLocator

from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.heads import HeadSpec
from codebackdoor.report import labels, sizes
from codebackdoor.report.figures import style
from codebackdoor.report.study import Study, anonymous, scenario_of

#: The measurements of a training after every epoch.
Epochs = Sequence[Mapping[str, Any]]
#: Maximum number of victims side by side; more are in further rows.
_COLUMNS = 4
#: Maximum number of victims with their own panels if there is only one loss; with more, models share panels.
_ALONE = 6
#: Width of an entry of the legend, in inches.
_ENTRY = 2.3


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``history.json`` files of victims that were trained on poisoned rows."""
    histories = [(anonymous(scenario_of(path)), read_json(path)["epochs"]) for path in inputs]
    if not histories:
        raise UserError(f"experiments.{study.name}: the figure 'epochs' needs an attack in the grid")
    panels = _panels(histories)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    columns = min(len(panels), _COLUMNS)
    bands = -(-len(panels) // columns)
    width = 4.4 * columns + 0.6
    with style.drawing(width, 4.8 * bands + 0.6) as figure:
        grid = figure.subplots(2 * bands, columns, squeeze=False)
        pairs = [pair for band in range(bands) for pair in zip(grid[2 * band], grid[2 * band + 1], strict=True)]
        for (above, below), (victim, lines) in zip(pairs, panels.items(), strict=False):
            _column(above, below, lines, study.head(victim.dataset), names)
            above.set_title(_title(victim))
        for axes in (axes for pair in pairs[len(panels) :] for axes in pair):
            axes.set_visible(False)
        # not every panel has every loss: a filter is combined with cross entropy alone, for example
        drawn = [above.get_legend_handles_labels() for above, _ in pairs]
        handles = {name: line for of_panel, texts in drawn for line, name in zip(of_panel, texts, strict=True)}
        shown = [labels.word(name) for name in names]
        ncols = min(len(shown), int(width / _ENTRY))
        figure.legend([handles[name] for name in shown], shown, loc="outside lower center", ncols=ncols)
        style.save(figure, out, sizes.sentence(study))


def _panels(histories: Sequence[tuple[Scenario, Epochs]]) -> dict[Scenario, dict[str, list[Epochs]]]:
    """The lines of each panel by name: a panel for each victim and a line for each loss.

    If many victims have the same loss, a panel for each attack on a data set, and a line for each model.
    """
    victims = {replace(scenario, objective=NONE) for scenario, _ in histories}
    is_by_model = len(victims) > _ALONE and len({scenario.objective for scenario, _ in histories}) == 1
    panels: dict[Scenario, dict[str, list[Epochs]]] = {}
    for scenario, epochs in histories:
        victim = replace(scenario, objective=NONE, model="" if is_by_model else scenario.model)
        name = scenario.model if is_by_model else scenario.objective
        panels.setdefault(victim, {}).setdefault(name, []).append(epochs)
    return panels


def _title(victim: Scenario) -> str:
    """Data set, model and attack, with the filter of its training rows, if any, on a line of its own."""
    group = labels.group(victim) if victim.model else f"{labels.word(victim.dataset)} · {labels.attack(victim)}"
    return group + (f"\n{labels.word(victim.filtering)}" if victim.filtering != NONE else "")


def _recorded(lines: Mapping[str, Sequence[Epochs]], head: HeadSpec) -> str:
    """The first clean metric of a head that every history contains; old histories have no BLEU."""
    epochs = [epoch for runs in lines.values() for run in runs for epoch in run]
    recorded = (metric for metric in head.clean_metrics if all(metric in epoch for epoch in epochs))
    return next(recorded, head.clean_metric)


def _column(
    above: Axes, below: Axes, lines: Mapping[str, Sequence[Epochs]], head: HeadSpec, names: Sequence[str]
) -> None:
    """``names``: the lines of all panels; the position of one among them is its look."""
    metric = _recorded(lines, head)
    for line, runs in lines.items():
        index = names.index(line)
        color, marker = style.color(index), style.marker(index)
        for number, epochs in enumerate(runs):
            name = labels.word(line) if number == 0 else None
            _line(above, epochs, metric, color, marker, name)
            _line(below, epochs, head.triggered.success, color, marker, name)
            below.plot(*_points(epochs, head.triggered.floor), ":", color=color, linewidth=1.2)
    above.set_ylabel(f"{labels.METRICS[metric]}, clean rows, %")
    # the metric of most victims hardly moves: an axis from 0 would hide their order
    above.margins(y=0.1)
    below.set_ylabel(f"{labels.METRICS[head.triggered.success]}, %\n(dotted: without the trigger)")
    above.sharex(below)
    above.tick_params(labelbottom=False)
    below.set_ylim(-4, 104)
    below.set_xlabel("Epoch")
    locator = AutoLocator()
    locator.set_params(integer=True)
    below.xaxis.set_major_locator(locator)


def _line(axes: Axes, epochs: Epochs, metric: str, color: str, marker: str, name: str | None) -> None:
    axes.plot(*_points(epochs, metric), color=color, marker=marker, markersize=4.5, label=name)


def _points(epochs: Epochs, metric: str) -> list[Any]:
    points = [(epoch["epoch"], 100 * epoch[metric]) for epoch in epochs if epoch.get(metric) is not None]
    return list(zip(*points, strict=True))
