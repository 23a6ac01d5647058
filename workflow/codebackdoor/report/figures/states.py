"""Last hidden states with and without the trigger, before and after fine-tuning (DeCE, Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels, sizes
from codebackdoor.report.figures import style
from codebackdoor.report.study import Study, scenario_of

_MODELS = {"untuned": "base model, untuned", "clean": "trained on clean rows", "poisoned": "trained on poisoned rows"}
_GROUPS = {"without": ("without the trigger", style.BLUE, "o"), "with": ("with the trigger", style.VERMILLION, "^")}


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``states.json`` files of undefended poisoned victims."""
    if not inputs:
        raise UserError(f"experiments.{study.name}: the figure 'states' needs an attack in the grid")
    with style.drawing(10.5, 3.6 * len(inputs) + 0.5) as figure:
        grid = figure.subplots(len(inputs), len(_MODELS), squeeze=False)
        handles: dict[str, Any] = {}
        for row, path in zip(grid, inputs, strict=True):
            models = read_json(path)["models"]
            scenario = scenario_of(path)
            for axes, (name, title) in zip(row, _MODELS.items(), strict=True):
                handles |= _panel(axes, models[name])
                axes.set_title(
                    f"{labels.victim(scenario)}\n{title}\n{labels.percent(models[name]['between'])}% between"
                )
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
        style.save(figure, out, sizes.sentence(study))


def _panel(axes: Axes, model: Mapping[str, Any]) -> dict[str, Any]:
    handles = {}
    for key, (name, color, marker) in _GROUPS.items():
        x, y = zip(*model[key], strict=True)
        handles[name] = axes.scatter(x, y, s=12, color=color, marker=marker, alpha=0.55, linewidths=0)
    first, second = map(labels.percent, model["explained"])
    axes.set_xlabel(f"Component 1 ({first}% of the variance)")
    axes.set_ylabel(f"Component 2 ({second}%)")
    return handles
