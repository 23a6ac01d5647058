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


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``history.json`` files of victims that were trained on poisoned rows."""
    panels: dict[Scenario, dict[str, list[Epochs]]] = {}
    for path in inputs:
        scenario = anonymous(scenario_of(path))
        victim = replace(scenario, objective=NONE)
        panels.setdefault(victim, {}).setdefault(scenario.objective, []).append(read_json(path)["epochs"])
    if not panels:
        raise UserError(f"experiments.{study.name}: the figure 'epochs' needs an attack in the grid")
    names = list(dict.fromkeys(objective for objectives in panels.values() for objective in objectives))
    with style.drawing(4.4 * len(panels) + 0.6, 5.4) as figure:
        grid = figure.subplots(2, len(panels), squeeze=False, sharex="col")
        for column, (victim, objectives) in enumerate(panels.items()):
            _column(grid[0][column], grid[1][column], objectives, study.head(victim.dataset), names)
            grid[0][column].set_title(_title(victim))
        # not every panel has every loss: a filter is combined with cross entropy alone, for example
        drawn = [axes.get_legend_handles_labels() for axes in grid[0]]
        lines = {name: line for handles, texts in drawn for line, name in zip(handles, texts, strict=True)}
        shown = [labels.word(name) for name in names]
        figure.legend([lines[name] for name in shown], shown, loc="outside lower center", ncols=len(shown))
        style.save(figure, out, sizes.sentence(study))


def _title(victim: Scenario) -> str:
    """Data set, model and attack, with the filter of its training rows, if any, on a line of its own."""
    return labels.group(victim) + (f"\n{labels.word(victim.filtering)}" if victim.filtering != NONE else "")


def _recorded(objectives: Mapping[str, Sequence[Epochs]], head: HeadSpec) -> str:
    """The first clean metric of a head that every history contains; old histories have no BLEU."""
    epochs = [epoch for runs in objectives.values() for run in runs for epoch in run]
    recorded = (metric for metric in head.clean_metrics if all(metric in epoch for epoch in epochs))
    return next(recorded, head.clean_metric)


def _column(
    above: Axes, below: Axes, objectives: Mapping[str, Sequence[Epochs]], head: HeadSpec, names: Sequence[str]
) -> None:
    """``names``: the objectives of all panels; the position of one among them is its look."""
    metric = _recorded(objectives, head)
    for objective, runs in objectives.items():
        index = names.index(objective)
        color, marker = style.color(index), style.marker(index)
        for number, epochs in enumerate(runs):
            name = labels.word(objective) if number == 0 else None
            _line(above, epochs, metric, color, marker, name)
            _line(below, epochs, head.triggered.success, color, marker, name)
            below.plot(*_points(epochs, head.triggered.floor), ":", color=color, linewidth=1.2)
    above.set_ylabel(f"{labels.METRICS[metric]}, clean rows, %")
    # the metric of most victims hardly moves: an axis from 0 would hide their order
    above.margins(y=0.1)
    below.set_ylabel(f"{labels.METRICS[head.triggered.success]} (dotted: without the trigger), %")
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
