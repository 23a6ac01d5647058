"""Every defense on every attacked victim: mean and range over the seeds, and the remaining backdoor for each seed.

Reads ``metrics.json`` files. A mean alone would hide that a defense misses the backdoor on one of five seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.scenario import Scenario
from codebackdoor.report import labels
from codebackdoor.report.collect import Results, collect, testsets
from codebackdoor.report.study import Study, anonymous, scenario_of
from codebackdoor.report.tables.listing import Column, Listing, ListingPart, Value, with_interval
from codebackdoor.report.tables.results import ResultTable, VictimGroup, by_model
from codebackdoor.report.tables.results import build as build_table
from codebackdoor.types import CLEAN

#: By scenario (without its seed) and attack: the remaining backdoor for each seed.
_BySeed = Mapping[tuple[Scenario, str], Mapping[int, float | None]]


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    results = collect(study, inputs)
    table = build_table(study, results)
    parts = tuple(_part(study, results, table, groups, inputs) for groups in by_model(table.attacked))
    brackets = (
        "In brackets the 95% bootstrap interval over test rows (one seed)."
        if table.seeds == 1
        else f"Means of {table.seeds} seeds; in brackets the smallest and the largest."
    )
    return Listing(f"{study.experiment.title}: every seed", parts, (f"Percent. {brackets}",))


def _part(
    study: Study, results: Results, table: ResultTable, groups: Sequence[VictimGroup], inputs: Sequence[Path]
) -> ListingPart:
    """The victims of one data set and model, which have the same metrics."""
    first = groups[0].scenario
    clean_metric = study.dataset_class(first.dataset).clean_metric
    summary = study.head(first.dataset).triggered.summary
    remaining = _values_by_seed(inputs, summary[-1])
    seeds = sorted({int(scenario.seed) for scenario in scenarios(study.experiment)})
    rows: list[Mapping[str, Value]] = []
    for group in groups:
        attack = group.scenario.attack
        metrics = {clean_metric: CLEAN, **dict.fromkeys(summary, attack)}
        for name, scenario in sorted(group.scenarios.items(), key=lambda pair: table.columns.index(pair[0])):
            values = remaining.get((anonymous(scenario), attack), {})
            means = {
                metric: with_interval(results.defined(scenario, at, metric), table.seeds)
                for metric, at in metrics.items()
            }
            of_seeds = ", ".join(_text(values.get(seed)) for seed in seeds)
            rows.append({"attack": labels.attack(group.scenario), "defense": name, **means, "seeds": of_seeds})
    seeds_head = f"{labels.METRICS[summary[-1]]}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    columns = (
        Column("attack", "Attack"),
        Column("defense", "Defense"),
        *(Column(metric, labels.METRICS[metric], "percent") for metric in (clean_metric, *summary)),
        Column("seeds", seeds_head),
    )
    return ListingPart(f"{first.dataset} {first.model}", labels.trained(first), columns, tuple(rows))


def _values_by_seed(inputs: Sequence[Path], metric: str) -> _BySeed:
    by_scenario: dict[tuple[Scenario, str], dict[int, float | None]] = {}
    for path in inputs:
        scenario = scenario_of(path)
        for testset, measured in testsets(path).items():
            if metric in measured["metrics"]:
                values = by_scenario.setdefault((anonymous(scenario), testset), {})
                values[int(scenario.seed)] = measured["metrics"][metric]["value"]
    return by_scenario


def _text(value: float | None) -> str:
    return labels.DASH if value is None else labels.percent(value)
