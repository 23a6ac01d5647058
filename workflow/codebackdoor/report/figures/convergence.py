"""Loss of the trigger search towards the target label, variant beside variant (EliBadCode, Figure 9).

Reads ``elimination.json`` files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels, papers, sizes
from codebackdoor.report.collect import Study, scenario_of
from codebackdoor.report.figures import style
from codebackdoor.report.measured import FOUND, steps, towards
from codebackdoor.report.shown import shown


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``elimination.json`` files."""
    found = curves(study, inputs)
    if not found:
        raise UserError(f"experiments.{study.name}: the figure 'convergence' needs a search towards an attack's target")
    same = alike(found)
    theirs = any(_is_papers(study, victim) for victim in found)
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    heads = {
        name: fill(f"{labels.word(name)}{_said(study, name) if theirs else ''}{_also(others)}", 52 * columns)
        for name, others in same.items()
    }
    lines = sum(head.count("\n") + 1 for head in heads.values())
    with style.drawing(4.6 * columns + 0.4, 2.9 * rows + 0.3 + 0.22 * lines) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        handles = {}
        for axes, (victim, own) in zip(panels.flat, found.items(), strict=False):
            for index, name in enumerate(same):
                if name not in own:
                    continue
                loss, colour = own[name], style.CYCLE[index % len(style.CYCLE)]
                (handles[name],) = axes.plot(range(len(loss)), loss, color=colour)
                step = steps(loss)
                if step is not None:
                    axes.plot([step], [loss[step]], "o", color=colour, markersize=6, markeredgecolor="white", zorder=4)
                printed = _printed(study, name) if _is_papers(study, victim) else None
                if printed is not None:
                    axes.axvline(printed, color=colour, linestyle="--", linewidth=1)
            axes.axhline(FOUND, color=style.GREY, linewidth=0.8)
            axes.set_title(labels.victim(victim))
            axes.set_xlabel("Iteration")
            axes.set_yscale("log")
        for axes in panels[:, 0]:
            axes.set_ylabel("Loss towards the target, nats")
        for axes in panels.flat[len(found) :]:
            axes.set_visible(False)
        figure.legend(handles.values(), [heads[name] for name in handles], loc="outside lower center", ncols=1)
        style.save(figure, out, sizes.sentence(study))


def curves(study: Study, inputs: Sequence[Path]) -> dict[Scenario, dict[str, list[float]]]:
    """By victim and variant of the defense, the losses of its best search towards the target."""
    paths = {scenario_of(path): path for path in inputs}
    found: dict[Scenario, dict[str, list[float]]] = {}
    for one in shown("convergence", inputs):
        search = towards(study, one, read_json(paths[one]))
        if search is not None:
            found.setdefault(one.undefended(), {})[one.elimination] = list(search["loss"])
    return found


def alike(found: Mapping[Scenario, Mapping[str, Sequence[float]]]) -> dict[str, list[str]]:
    """The variants to draw, each with the others that have its curves: those that differ in what follows the search."""
    same: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for own in found.values() for name in own):
        drawn = (one for one in same if all(own.get(one) == own.get(name) for own in found.values()))
        one = next(drawn, None)
        if one is None:
            same[name] = []
        else:
            same[one].append(name)
    return same


def _also(names: Sequence[str]) -> str:
    return f"; the same: {', '.join(map(labels.word, names))}" if names else ""


def _is_papers(study: Study, victim: Scenario) -> bool:
    """Whether the victim is that of the paper's figure: CodePoisoner's, on defect detection."""
    named = {
        theirs for wanted in study.experiment.paper for ours, theirs in wanted.attacks.items() if ours == victim.attack
    }
    return study.task(victim.dataset) == "defect_detection" and "codepoisoner_identifier" in named


def _printed(study: Study, name: str) -> int | None:
    """The step at which the paper's variant of this name has its trigger."""
    printed: Mapping[str, int] = papers.quoted("elibadcode")["convergence"]["steps"]
    return printed.get(papers.their_name(study.experiment, name))


def _said(study: Study, name: str) -> str:
    step = _printed(study, name)
    return "" if step is None else f" (paper: step {step})"
