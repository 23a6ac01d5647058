"""What a trigger search costs by the sensitivity of the place where the trigger stands (EliBadCode, Figure 5).

Reads ``elimination.json`` files of variants with ``position: rank`` (rank 0: the least sensitive identifier of each
sample, -1 the most sensitive) or ``position: least_sensitive``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels, sizes
from codebackdoor.report.collect import Study, scenario_of
from codebackdoor.report.figures import style
from codebackdoor.report.measured import steps, towards
from codebackdoor.report.shown import shown


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``elimination.json`` files."""
    found = costs(study, inputs)
    if not found:
        raise UserError(f"experiments.{study.name}: the figure 'sensitivity' needs eliminations with position: rank")
    # from the least sensitive to the most: 0, 1, 2, ..., -2, -1
    ranks = sorted({rank for own in found.values() for rank in own}, key=lambda rank: (rank < 0, rank))
    width = 0.8 / len(found)
    with style.drawing(1.2 + 0.75 * len(ranks), 3.4) as figure:
        axes = figure.subplots()
        for index, (victim, own) in enumerate(found.items()):
            colour = style.CYCLE[index % len(style.CYCLE)]
            for place, rank in enumerate(ranks):
                if rank not in own:
                    continue
                step, tried = own[rank]
                where = place - 0.4 + (index + 0.5) * width
                axes.bar(
                    [where], [tried if step is None else step], width, color="none" if step is None else colour,
                    edgecolor=colour, hatch="///" if step is None else None,
                )  # fmt: skip
            axes.bar([0], [0], color=colour, label=labels.victim(victim))
        axes.set_xticks(range(len(ranks)), [_rank(rank) for rank in ranks])
        axes.set_xlabel("Place of the trigger, by sensitivity")
        axes.set_ylabel("Steps until the trigger is found")
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside lower left", ncols=1)
        style.save(figure, out, sizes.sentence(study))


def costs(study: Study, inputs: Sequence[Path]) -> dict[Scenario, dict[int, tuple[int | None, int]]]:
    """By victim and rank: the step at which the trigger is found, None where it is not, and all steps made."""
    paths = {scenario_of(path): path for path in inputs}
    found: dict[Scenario, dict[int, tuple[int | None, int]]] = {}
    for one in shown("sensitivity", inputs):
        variant = study.variant("eliminations", one.elimination)
        rank = {"rank": variant.get("rank"), "least_sensitive": 0}.get(str(variant.get("position")))
        search = towards(study, one, read_json(paths[one]))
        if one.attack != NONE and rank is not None and search is not None:
            loss: Sequence[float] = search["loss"]
            found.setdefault(one.undefended(), {})[int(rank)] = (steps(loss), len(loss) - 1)
    return found


def _rank(rank: int) -> str:
    names: Mapping[int, str] = {0: "least", -1: "most"}
    return f"{rank}\n({names[rank]})" if rank in names else str(rank)
