"""Loss of the trigger search towards the target label, for each variant of a defense (EliBadCode, Figure 9).

Reads ``elimination.json`` files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels, papers, sizes
from codebackdoor.report.figures import style
from codebackdoor.report.figures.data import SUCCESS, best_search, steps
from codebackdoor.report.study import Study, scenarios_shown

#: By variant of the defense, the losses of a search.
Curves = Mapping[str, Sequence[float]]


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``elimination.json`` files."""
    by_victim = curves(study, inputs)
    if not by_victim:
        raise UserError(f"experiments.{study.name}: the figure 'convergence' needs a search towards an attack's target")
    groups = equal_curves(by_victim)
    printed = {name: step for victim in by_victim for name, step in _printed_steps(study, victim, groups).items()}
    columns = min(2, len(by_victim))
    rows = -(-len(by_victim) // columns)
    names = {name: fill(_name(name, equal, printed.get(name)), 52 * columns) for name, equal in groups.items()}
    lines = sum(name.count("\n") + 1 for name in names.values())
    with style.drawing(4.6 * columns + 0.4, 2.9 * rows + 0.3 + 0.22 * lines) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        handles: dict[str, Artist] = {}
        for axes, (victim, losses) in zip(panels.flat, by_victim.items(), strict=False):
            handles |= _panel(axes, losses, list(groups), _printed_steps(study, victim, groups))
            axes.set_title(labels.victim(victim))
        for axes in panels[:, 0]:
            axes.set_ylabel("Loss towards the target, nats")
        for axes in panels.flat[len(by_victim) :]:
            axes.set_visible(False)
        figure.legend(handles.values(), [names[name] for name in handles], loc="outside lower center", ncols=1)
        style.save(figure, out, sizes.sentence(study))


def _panel(axes: Axes, losses: Curves, names: Sequence[str], printed: Mapping[str, int]) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for index, name in enumerate(names):
        if name not in losses:
            continue
        loss, color = losses[name], style.color(index)
        (handles[name],) = axes.plot(range(len(loss)), loss, color=color, label=labels.word(name))
        step = steps(loss)
        if step is not None:
            axes.plot([step], [loss[step]], "o", color=color, markersize=6, markeredgecolor="white", zorder=4)
        if name in printed:
            axes.axvline(printed[name], color=color, linestyle="--", linewidth=1)
    axes.axhline(SUCCESS, color=style.GRAY, linewidth=0.8)
    axes.set_xlabel("Iteration")
    axes.set_yscale("log")
    return handles


def curves(study: Study, inputs: Sequence[Path]) -> dict[Scenario, dict[str, list[float]]]:
    """The losses of the best search towards the target, by victim and by variant of the defense."""
    losses: dict[Scenario, dict[str, list[float]]] = {}
    for scenario, path in scenarios_shown("convergence", inputs).items():
        search = best_search(study, scenario, read_json(path))
        if search is not None:
            losses.setdefault(scenario.undefended(), {})[scenario.elimination] = list(search["loss"])
    return losses


def equal_curves(by_victim: Mapping[Scenario, Curves]) -> dict[str, list[str]]:
    """The variants to draw, each with the variants that have the same curves: they differ only after the search."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for losses in by_victim.values() for name in losses):
        equal = (
            first for first in groups if all(losses.get(first) == losses.get(name) for losses in by_victim.values())
        )
        first = next(equal, None)
        if first is None:
            groups[name] = []
        else:
            groups[first].append(name)
    return groups


def _printed_steps(study: Study, victim: Scenario, names: Mapping[str, object]) -> dict[str, int]:
    """The step at which each variant's search succeeds according to a paper, on the paper's victim."""
    printed = study.printed_values("convergence", victim)
    paper_names = {name: papers.their_name(study.experiment, name) for name in names}
    return {name: printed[paper_names[name]] for name in names if paper_names[name] in printed}


def _name(name: str, equal: Sequence[str], printed: int | None) -> str:
    paper = "" if printed is None else f" (paper: step {printed})"
    also = f"; the same: {', '.join(map(labels.word, equal))}" if equal else ""
    return f"{labels.word(name)}{paper}{also}"
