"""Undefended victims by attack and poison rate, and whether better models are more vulnerable (DeCE, Table 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from codebackdoor.config.scenario import Scenario
from codebackdoor.evaluation.correlation import MODELS
from codebackdoor.report import labels, vulnerability
from codebackdoor.report.collect import Results, collect
from codebackdoor.report.study import Study
from codebackdoor.report.tables.listing import Column, Listing, ListingPart, Marked, Value, with_interval
from codebackdoor.types import CLEAN

_VICTIMS = (
    Column("dataset", "Data set"),
    Column("attack", "Attack"),
    Column("rate", "Rate, %", "percent"),
    Column("model", "Victim"),
    Column("metric", "Clean metric"),
    Column("benign", "Benign, %", "percent"),
    Column("clean", "Poisoned, %", "percent"),
    Column("asr", "ASR, %", "percent"),
    Column("floor", "Floor, %", "percent"),
    Column("paper", "ASR in the paper, %", "percent"),
)
_CORRELATIONS = (
    Column("dataset", "Data set"),
    Column("r", "r", "number"),
    Column("models", "Models", "number"),
    Column("victims", "Victims", "number"),
)
_NOTES = (
    "ASR and floor: with and without the trigger, by the same victim (code search: ANR). In brackets: the 95% "
    "bootstrap interval of one seed, or the range of several.",
    "r: Pearson's correlation of the benign victim's clean metric and the ASR, both centered within one attack at one "
    "rate, so that models are compared that were poisoned in the same way. Its 95% interval is a bootstrap over "
    f"models; {labels.DASH} for fewer than {MODELS} of them. Positive: the better models are the more vulnerable ones.",
)


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    results, victims = collect(study, inputs), vulnerability.attacked(study)
    datasets = dict.fromkeys(victim.dataset for victim in victims)
    parts = (
        ListingPart(
            "victims",
            "ASR against poison rate",
            _VICTIMS,
            tuple(victim_row(study, results, victim) for victim in victims),
        ),
        ListingPart(
            "correlation",
            "Are better models more vulnerable?",
            _CORRELATIONS,
            tuple(_correlation(study, results, dataset) for dataset in datasets),
        ),
    )
    return Listing(f"{study.experiment.title}: poison rates", parts, _NOTES)


def victim_row(study: Study, results: Results, victim: Scenario) -> Mapping[str, Value]:
    metric, triggered = study.dataset_class(victim.dataset).clean_metric, study.head(victim.dataset).triggered
    cell = results.get(victim, victim.attack, triggered.success)
    return {
        "dataset": labels.word(victim.dataset),
        "attack": labels.word(victim.attack),
        "rate": float(victim.rate),
        "model": labels.word(victim.model),
        "metric": labels.METRICS[metric],
        "benign": with_interval(results.defined(victim.benign(), CLEAN, metric)),
        "clean": with_interval(results.defined(victim, CLEAN, metric)),
        "asr": with_interval(results.defined(victim, victim.attack, triggered.success)),
        "floor": with_interval(results.defined(victim, victim.attack, triggered.floor)),
        "paper": None if cell is None or cell.paper is None else cell.paper.value,
    }


def _correlation(study: Study, results: Results, dataset: str) -> Mapping[str, Value]:
    estimate = vulnerability.correlation_of(study, results, dataset)
    if estimate is None:
        return {"dataset": labels.word(dataset), "r": None, "models": None, "victims": None}
    return {
        "dataset": labels.word(dataset),
        "r": Marked(estimate.value, f" [{estimate.low:.2f}, {estimate.high:.2f}]"),
        "models": estimate.models,
        "victims": estimate.victims,
    }
