"""Loss of the trigger search over its iterations, with and without position identification (EliBadCode, Figure 9).

With it the trigger replaces the least sensitive identifier of each sample, without it the function's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels, sizes
from codebackdoor.report.figures import style
from codebackdoor.report.study import Study, scenarios_shown

#: Legend label and line style of each position.
POSITION_LABELS = {
    "least_sensitive": ("with position identification", "-"),
    "function_name": ("at the function's name", "--"),
    "statement": ("as the first statement", "-."),
}
_COLUMNS = 3


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``elimination.json`` files; those of methods that search no trigger are skipped."""
    shown = scenarios_shown("inversion", inputs)
    searched = {scenario: read_json(path)["searches"] for scenario, path in shown.items()}
    if not searched:
        raise UserError(f"experiments.{study.name}: the figure 'inversion' needs an elimination that inverts triggers")
    columns = 2 if len(searched) == 4 else min(_COLUMNS, len(searched))
    rows = -(-len(searched) // columns)
    has_several = len({scenario.elimination for scenario in searched}) > 1
    with style.drawing(3.1 * columns + 0.4, 2.5 * rows + 0.8) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        handles: dict[str, Any] = {}
        for axes, (scenario, searches) in zip(panels.flat, searched.items(), strict=False):
            handles |= _panel(axes, searches)
            axes.set_title(_title(scenario, has_several))
        for axes in panels.flat[len(searched) :]:
            axes.set_visible(False)
        for axes in list(panels.flat[: len(searched)])[-columns:]:
            axes.set_xlabel("Iteration")
            axes.tick_params(labelbottom=True)
        for axes in panels[:, 0]:
            axes.set_ylabel("Loss towards the label, nats")
            axes.set_yscale("log")
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=1 if columns == 1 else 2)
        style.save(figure, out, sizes.sentence(study))


def _panel(axes: Axes, searches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    handles = {}
    for search in searches:
        position, line = POSITION_LABELS.get(search["place"], (f"at {search['place']}".replace("_", " "), ":"))
        color = style.color(search["label"])
        name = f"label {search['label']}, {position}"
        (handles[name],) = axes.plot(range(len(search["loss"])), search["loss"], line, color=color, label=name)
    return handles


def _title(scenario: Scenario, has_several: bool) -> str:
    victim = "benign victim" if scenario.attack == NONE else labels.attack(scenario)
    seed = "" if scenario.seed == "1" else f", seed {scenario.seed}"
    return f"{victim}{seed}" + (f"\n{labels.word(scenario.elimination)}" if has_several else "")
