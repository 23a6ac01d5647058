"""Clean metric and ASR after every epoch for each objective, on the validation split (DeCE, Figures 2 and 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Study, anonymous, scenario_of
from codebackdoor.report.figures import style


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``history.json`` files of victims that were trained on poisoned rows."""
    panels: dict[Scenario, dict[str, list[list[Mapping[str, Any]]]]] = {}
    for path in inputs:
        scenario = anonymous(scenario_of(path))
        key = replace(scenario, objective="cross_entropy")
        panels.setdefault(key, {}).setdefault(scenario.objective, []).append(read_json(path)["epochs"])
    if not panels:
        raise UserError(f"experiments.{study.name}: the figure 'epochs' needs an attack in the grid")
    with style.drawing(4.4 * len(panels) + 0.6, 5.4) as figure:
        grid = figure.subplots(2, len(panels), squeeze=False, sharex="col")
        for column, (scenario, objectives) in enumerate(panels.items()):
            above, below = grid[:, column]
            metric = labels.CLEAN_METRIC[study.task(scenario.dataset)]
            for index, (objective, runs) in enumerate(objectives.items()):
                place = index % len(style.MARKERS)
                colour, marker = style.CYCLE[place], style.MARKERS[place]
                for number, epochs in enumerate(runs):
                    name = labels.word(objective) if number == 0 else None
                    _line(above, epochs, metric, colour, marker, name)
                    _line(below, epochs, "asr", colour, marker, name)
                    _floor(below, epochs, colour)
            above.set_title(f"{labels.word(scenario.dataset)} · {labels.attack(scenario)}")
            above.set_ylabel(f"{labels.METRICS[metric]}, clean rows, %")
            above.set_ylim(bottom=0)
            below.set_ylabel("ASR (dotted: its floor), %")
            below.set_ylim(-4, 104)
            below.set_xlabel("Epoch")
            below.xaxis.get_major_locator().set_params(integer=True)
        handles, names = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        style.save(figure, out, sizes.sentence(study))


def _line(
    axes: Axes, epochs: Sequence[Mapping[str, Any]], metric: str, colour: str, marker: str, name: str | None
) -> None:
    shown = [(one["epoch"], 100 * one[metric]) for one in epochs if one.get(metric) is not None]
    axes.plot(*zip(*shown, strict=True), color=colour, marker=marker, markersize=4.5, label=name)


def _floor(axes: Axes, epochs: Sequence[Mapping[str, Any]], colour: str) -> None:
    shown = [(one["epoch"], 100 * one["floor"]) for one in epochs if one.get("floor") is not None]
    axes.plot(*zip(*shown, strict=True), ":", color=colour, linewidth=1.2)
