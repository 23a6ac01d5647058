"""Filters: which training rows they drop, and the victim that is trained on the kept rows.

Reads ``filter.json`` files, and the ``metrics.json`` of the victims with and without a filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codebackdoor.config.scenario import AUDITED, Scenario
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.collect import DefinedCell, Results, collect
from codebackdoor.report.study import Study, anonymous, scenario_of
from codebackdoor.report.tables.listing import Column, Listing, ListingPart, Marked, Value
from codebackdoor.types import CLEAN

_SCORES = {
    "dropped": "Rows dropped, %",
    "precision": "Precision, %",
    "recall": "Recall, %",
    "fpr": "FPR, %",
    "npv": "NPV, %",
    "auroc": "AUROC, %",
}
_VICTIMS = (
    Column("victim", "Victim"),
    Column("defense", "Filter"),
    Column("clean", "Clean metric"),
    Column("clean_undefended", "Undefended, %", "percent"),
    Column("clean_filtered", "Filtered, %", "percent"),
    Column("clean_change", "Change, points", "points"),
    Column("effect", "Remaining effect"),
    Column("effect_undefended", "Undefended, %", "percent"),
    Column("effect_filtered", "Filtered, %", "percent"),
)

_NOTES = (
    "Precision: share of the dropped rows that are poisoned. Recall: share of the poisoned rows that are dropped. "
    "FPR: share of the clean rows that are dropped. NPV: share of the kept rows that are clean. AUROC: how often a "
    "poisoned row is more suspicious than a clean one with the same label. In brackets: of one seed, the 95% interval "
    "(shares: Clopper-Pearson; AUROC: DeLong); of several, whose mean is shown, the smallest and the largest value.",
    f"{labels.DASH}: undefined; no row is poisoned, or none is dropped.",
    "The filter does not know these numbers. The undefended victim is trained on all rows, the filtered one on those "
    "that the filter keeps.",
)


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    results = collect(study, [path for path in inputs if path.name != AUDITED])
    audits: dict[Scenario, list[Mapping[str, Any]]] = {}
    for path in inputs:
        if path.name == AUDITED:
            audits.setdefault(anonymous(scenario_of(path)), []).append(read_json(path)["metrics"])
    columns = (
        Column("victim", "Victim"),
        Column("defense", "Filter"),
        Column("seeds", "Seeds", "number"),
        *(Column(name, head, "percent") for name, head in _SCORES.items()),
    )
    scores = tuple(_scores(scenario, of_seeds) for scenario, of_seeds in audits.items())
    victims = tuple(_victim(study, results, scenario) for scenario in audits)
    parts = (
        ListingPart("rows", "Which rows are dropped", columns, scores),
        ListingPart("victims", "The victim that is trained on the others", _VICTIMS, victims),
    )
    return Listing(f"{study.experiment.title}: filters", parts, _NOTES)


def _scores(scenario: Scenario, of_seeds: Sequence[Mapping[str, Any]]) -> Mapping[str, Value]:
    measured = {name: _value([metrics[name] for metrics in of_seeds]) for name in _SCORES}
    return {"victim": labels.group(scenario), "defense": labels.defense(scenario), "seeds": len(of_seeds), **measured}


def _value(estimates: Sequence[Mapping[str, Any]]) -> Value:
    """One seed: the value with its interval; several: their mean with the range.

    Seeds for which the value is undefined do not count.
    """
    values = [float(estimate["value"]) for estimate in estimates if estimate["value"] is not None]
    if not values:
        return None
    low, high = min(values), max(values)
    if len(estimates) == 1:
        low, high = estimates[0]["low"], estimates[0]["high"]
    return Marked(sum(values) / len(values), f" [{labels.percent(low)}, {labels.percent(high)}]")


def _victim(study: Study, results: Results, scenario: Scenario) -> Mapping[str, Value]:
    """The clean metric with and without the filter, and, for an attacked victim, its remaining backdoor."""
    clean, effect = study.dataset_class(scenario.dataset).clean_metric, study.head(scenario.dataset).triggered.effect
    undefended = scenario.undefended()
    before, after = (_of(results.defined(victim, CLEAN, clean)) for victim in (undefended, scenario))
    row: dict[str, Value] = {
        "victim": labels.group(scenario),
        "defense": labels.defense(scenario),
        "clean": labels.METRICS[clean],
        "clean_undefended": before,
        "clean_filtered": after,
        "clean_change": None if before is None or after is None else after - before,
    }
    if scenario.attack in results.testsets(scenario):
        row["effect"] = labels.METRICS[effect]
        row["effect_undefended"] = _of(results.defined(undefended, scenario.attack, effect))
        row["effect_filtered"] = _of(results.defined(scenario, scenario.attack, effect))
    return row


def _of(cell: DefinedCell | None) -> float | None:
    return None if cell is None else cell.value
