"""Every defense on every attacked victim over the seeds: mean, range, and what is left of the backdoor on each seed.

Reads ``metrics.json`` files. A mean alone hides that a defense misses the backdoor on one seed of five.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels
from codebackdoor.report.collect import Cell, Scored, Study, anonymous, collect, scenario_of, testsets
from codebackdoor.report.listed import Column, Listed, Marked, Part, Value
from codebackdoor.report.tables import Group, Table
from codebackdoor.report.tables import build as build_table
from codebackdoor.types import CLEAN

#: What is measured under a trigger: of labels and outputs, and of the ranks of a search.
_FLIPS, _RANKS = ("asr", "floor", "flip_rate"), ("anr_without", "anr")
#: By scenario (its seed left out) and attack: what is left of the backdoor on each seed.
_Left = Mapping[tuple[Scenario, str], Mapping[int, float | None]]


def build(study: Study, inputs: Sequence[Path]) -> Listed:
    scored = collect(study, inputs)
    table = build_table(study, scored)
    victims: dict[tuple[str, str], list[Group]] = {}
    for group in table.groups:
        if group.scenario.attack != NONE:
            victims.setdefault((group.scenario.dataset, group.scenario.model), []).append(group)
    parts = tuple(_part(study, scored, table, groups, inputs) for groups in victims.values())
    brackets = (
        "In brackets the 95 % bootstrap interval over test rows (one seed)."
        if table.seeds == 1
        else f"Means of {table.seeds} seeds; in brackets the smallest and the largest."
    )
    return Listed(f"{study.experiment.title}: every seed", parts, (f"Percent. {brackets}",))


def _part(study: Study, scored: Scored, table: Table, groups: Sequence[Group], inputs: Sequence[Path]) -> Part:
    """The victims of one data set and model, which have the same metrics."""
    first = groups[0].scenario
    task = study.task(first.dataset)
    clean, triggered = labels.CLEAN_METRIC[task], _RANKS if task == "code_search" else _FLIPS
    left = _left(inputs, triggered[-1])
    seeds = sorted({int(scenario.seed) for scenario in scenarios(study.experiment)})
    rows: list[Mapping[str, Value]] = []
    for group in groups:
        attack = group.scenario.attack
        for name, scenario in sorted(group.scenarios.items(), key=lambda pair: table.columns.index(pair[0])):
            metrics = {clean: CLEAN, **dict.fromkeys(triggered, attack)}
            values = left.get((anonymous(scenario), attack), {})
            rows.append(
                {
                    "attack": labels.attack(group.scenario),
                    "defense": name,
                    **{metric: _mean(scored.get(scenario, at, metric), table.seeds) for metric, at in metrics.items()},
                    "seeds": ", ".join(_text(values.get(seed)) for seed in seeds),
                }
            )
    columns = (
        Column("attack", "Attack"),
        Column("defense", "Defense"),
        *(Column(metric, labels.METRICS[metric], "percent") for metric in (clean, *triggered)),
        Column("seeds", f"{labels.METRICS[triggered[-1]]}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"),
    )
    return Part(f"{first.dataset} {first.model}", labels.trained(first), columns, tuple(rows))


def _left(inputs: Sequence[Path], metric: str) -> _Left:
    left: dict[tuple[Scenario, str], dict[int, float | None]] = {}
    for path in inputs:
        scenario = scenario_of(path)
        for testset, measured in testsets(path).items():
            if metric in measured["metrics"]:
                values = left.setdefault((anonymous(scenario), testset), {})
                values[int(scenario.seed)] = measured["metrics"][metric]["value"]
    return left


def _mean(cell: Cell | None, seeds: int) -> Value:
    """With its interval, or its range, as a mark; ``×2`` where fewer seeds than the others have a value."""
    if cell is None or cell.value is None:
        return None
    if cell.low is None or cell.high is None:
        return cell.value
    return Marked(cell.value, f"{cell.mark(seeds)} [{labels.percent(cell.low)}, {labels.percent(cell.high)}]")


def _text(value: float | None) -> str:
    return labels.DASH if value is None else labels.percent(value)
