"""How long a trigger search takes, by the sensitivity of the trigger's position (EliBadCode, Figure 5).

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
from codebackdoor.report.figures import style
from codebackdoor.report.figures.data import best_search, steps
from codebackdoor.report.figures.description import unlisted
from codebackdoor.report.study import Study, scenarios_shown


def draw(study: Study, inputs: Sequence[Path], out: Path) -> None:
    """``inputs``: ``elimination.json`` files."""
    by_victim = costs(study, inputs)
    if not by_victim:
        raise UserError(f"experiments.{study.name}: the figure 'sensitivity' needs eliminations with position: rank")
    # from the least sensitive to the most: 0, 1, 2, ..., -2, -1
    ranks = sorted({rank for by_rank in by_victim.values() for rank in by_rank}, key=lambda rank: (rank < 0, rank))
    width = 0.8 / len(by_victim)
    with style.drawing(1.2 + 0.75 * len(ranks), 3.4) as figure:
        axes = figure.subplots()
        for index, (victim, by_rank) in enumerate(by_victim.items()):
            color = style.color(index)
            for column, rank in enumerate(ranks):
                if rank not in by_rank:
                    continue
                step, iterations = by_rank[rank]
                x = column - 0.4 + (index + 0.5) * width
                axes.bar(
                    [x], [iterations if step is None else step], width, color="none" if step is None else color,
                    edgecolor=color, hatch="///" if step is None else None, label=unlisted(labels.victim(victim)),
                )  # fmt: skip
            axes.bar([0], [0], color=color, label=labels.victim(victim))
        axes.set_xticks(range(len(ranks)), [_rank(rank) for rank in ranks])
        axes.set_xlabel("Position of the trigger, by sensitivity")
        axes.set_ylabel("Steps until the trigger is found")
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside lower left", ncols=1)
        style.save(figure, out, sizes.sentence(study))


def costs(study: Study, inputs: Sequence[Path]) -> dict[Scenario, dict[int, tuple[int | None, int]]]:
    """By victim and rank: the step at which the search succeeds (None: never), and the number of iterations."""
    by_victim: dict[Scenario, dict[int, tuple[int | None, int]]] = {}
    for scenario, path in scenarios_shown("sensitivity", inputs).items():
        variant = study.variant("eliminations", scenario.elimination)
        rank = {"rank": variant.get("rank"), "least_sensitive": 0}.get(str(variant.get("position")))
        search = best_search(study, scenario, read_json(path))
        if scenario.attack != NONE and rank is not None and search is not None:
            loss: Sequence[float] = search["loss"]
            by_victim.setdefault(scenario.undefended(), {})[int(rank)] = (steps(loss), len(loss) - 1)
    return by_victim


def _rank(rank: int) -> str:
    names: Mapping[int, str] = {0: "least", -1: "most"}
    return f"{rank}\n({names[rank]})" if rank in names else str(rank)
