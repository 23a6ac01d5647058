"""Every defense against every attack, with the metrics that tell a good defense from one that only looks good.

Reads ``metrics.json`` files. In addition to flip rate, ASR and floor, the table has the metrics of other benchmarks:
robust accuracy (RA) and the defense effectiveness rating (DER) of BackdoorBench (Wu et al. 2022), and the difference
between the ASR and that of the benign victim on the same rows (ASRD, Sheng et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels
from codebackdoor.report.collect import Results, clean_cost, collect
from codebackdoor.report.study import Study
from codebackdoor.report.tables.listing import Column, Listing, ListingPart, Value, with_interval
from codebackdoor.report.tables.results import ResultTable, VictimGroup, by_model
from codebackdoor.report.tables.results import build as build_table
from codebackdoor.types import CLEAN

#: Minimum success of an undefended attack; below it, a defense cannot be judged.
LEARNED = 0.5
_NOTES = (
    "Percent; costs and differences in points. Cost: drop of the clean metric, compared with the undefended victim. "
    "RA: triggered rows that are predicted correctly. DER: half of the drop of the ASR, minus half of the cost, plus "
    "50; above 50, the defense does more good than harm. It rewards an ASR below the floor, which means that the "
    "defense taught the opposite backdoor. ASRD: ASR beyond that of the benign victim on the same rows.",
)
_WEAK = f"*: below {LEARNED:.0%} without a defense; such an attack says nothing about a defense."


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    results = collect(study, inputs)
    table = build_table(study, results)
    parts = tuple(_part(study, results, table, groups) for groups in by_model(table.attacked))
    is_any_weak = any(is_weak(study, results, group.scenario) for group in table.attacked)
    is_any_undefined = any(value is None for part in parts for row in part.rows for value in row.values())
    notes = (
        *_NOTES,
        *((_WEAK,) if is_any_weak else ()),
        *((f"{labels.DASH}: undefined, for example because {labels.NO_FLIP_RATE}.",) if is_any_undefined else ()),
    )
    brackets = (
        "In brackets the 95% bootstrap interval over test rows."
        if table.seeds == 1
        else f"Means of {table.seeds} seeds; in brackets the smallest and the largest; ×N: of N seeds."
    )
    return Listing(f"{study.experiment.title}: backdoors and costs", parts, (*notes, brackets))


def _part(study: Study, results: Results, table: ResultTable, groups: Sequence[VictimGroup]) -> ListingPart:
    """The victims of one data set and model: all defenses against each attack in turn."""
    first = groups[0].scenario
    triggered = study.head(first.dataset).triggered
    clean = study.dataset_class(first.dataset).clean_metric
    measured = (triggered.effect, triggered.success, triggered.floor)
    columns = [
        Column("attack", "Attack"),
        Column("defense", "Defense"),
        *(Column(name, labels.METRICS[name], "percent") for name in dict.fromkeys(measured)),
        Column(clean, labels.METRICS[clean], "percent"),
        Column("clean_cost", "Cost", "points"),
    ]
    if triggered.high_is_backdoored:
        columns += [Column("robust_accuracy", "RA", "percent"), Column("der", "DER", "percent")]
        columns += [Column("asrd", "ASRD", "points")]
    rows: list[Mapping[str, Value]] = []
    for group in groups:
        mark = "*" if is_weak(study, results, group.scenario) else ""
        names = sorted(group.scenarios, key=table.columns.index)
        for scenario in (group.scenarios[name] for name in names if name != labels.BENIGN):
            values = dict(_values(study, results, scenario, table.seeds))
            if values:
                entries = {column.name: values[column.name] for column in columns if column.name in values}
                name = labels.column(scenario)
                rows.append({"attack": f"{labels.attack(group.scenario)}{mark}", "defense": name, **entries})
    non_empty = tuple(column for column in columns if any(column.name in row for row in rows))
    return ListingPart(f"{first.dataset} {first.model}", labels.trained(first), non_empty, tuple(rows))


def is_weak(study: Study, results: Results, victim: Scenario) -> bool:
    """Whether the attack hardly works on the undefended victim; False if no ASR is measured."""
    asr = results.defined(victim.undefended(), victim.attack, "asr")
    return study.head(victim.dataset).triggered.high_is_backdoored and asr is not None and asr.value < LEARNED


def _values(study: Study, results: Results, scenario: Scenario, seeds: int) -> Iterator[tuple[str, Value]]:
    """The measured values of a scenario by column."""
    triggered = study.head(scenario.dataset).triggered
    clean = study.dataset_class(scenario.dataset).clean_metric
    for metric in (triggered.effect, triggered.success, triggered.floor, "robust_accuracy"):
        cell = results.defined(scenario, scenario.attack, metric)
        if cell is not None:
            yield metric, with_interval(cell, seeds) if metric == triggered.effect else cell.value
        elif results.get(scenario, scenario.attack, metric) is not None:
            yield metric, None
    if (cell := results.defined(scenario, CLEAN, clean)) is None:
        return
    yield clean, with_interval(cell, seeds)
    cost = clean_cost(study, results, scenario)
    if cost is not None:
        yield "clean_cost", cost.value
        fall = _difference(results, scenario.undefended(), scenario, "asr")
        if fall is not None:
            yield "der", (max(0.0, fall) - max(0.0, cost.value) + 1) / 2
    asrd = _difference(results, scenario, scenario.undefended().benign(), "asr")
    if asrd is not None:
        yield "asrd", asrd


def _difference(results: Results, minuend: Scenario, subtrahend: Scenario, metric: str) -> float | None:
    """The difference of two victims on the triggered test set of the attacked one."""
    attack = next(scenario.attack for scenario in (minuend, subtrahend) if scenario.attack != NONE)
    first, second = (results.defined(scenario, attack, metric) for scenario in (minuend, subtrahend))
    if first is None or second is None:
        return None
    return first.value - second.value
