"""The order of the defenses compared with the paper's, and every pair whose order is reversed, with the reason.

Reads ``metrics.json`` files. On each victim, defenses are ordered by ASR (retrieval: ANR), and by every clean metric
that the paper prints, which may differ from that of our tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Literal

from codebackdoor.config.experiments import rank
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.sections import DEFENSES
from codebackdoor.report import labels
from codebackdoor.report.collect import DefinedCell, Results, collect
from codebackdoor.report.study import Study, attacked
from codebackdoor.report.tables.listing import Column, Listing, ListingPart, Value
from codebackdoor.types import CLEAN

Rows = Literal["clean", "triggered"]

_ORDERS = (
    Column("dataset", "Data set"),
    Column("metric", "Metric"),
    Column("victims", "Victims", "number"),
    Column("paper", "Paper, best first"),
    Column("here", "Here, best first"),
)
_DIFFERENCES = (
    Column("dataset", "Data set"),
    Column("metric", "Metric"),
    Column("better", "First, better in the paper"),
    Column("worse", "Second"),
    Column("paper_better", "Paper, first, %", "percent"),
    Column("paper_worse", "Paper, second, %", "percent"),
    Column("here_better", "Here, first, %", "percent"),
    Column("here_worse", "Here, second, %", "percent"),
    Column("same", "Same on", "number"),
    Column("close", "Too close on", "number"),
    Column("opposite", "Opposite on", "number"),
    Column("reason", "Reason"),
)
_NOTES = (
    "Means in percent over the victims (model and attack) for which the paper prints every one of these defenses. For "
    "ASR, less is better; for ANR and clean metrics, more.",
    "Same: victims on which the two defenses are in the order that the paper prints for this victim. Opposite: victims "
    "on which they are in the other order, even if the means agree. Too close: victims on which the two intervals "
    "overlap or the paper prints equal values.",
)
#: For each victim, the measured values of those defenses for which the paper prints a value.
Victims = Sequence[Mapping[Scenario, DefinedCell]]


@dataclass(frozen=True, slots=True)
class _Order:
    """The defenses of one data set ordered by one metric; a scenario without a victim represents each defense.

    ``sign`` is 1 if more is better.
    """

    study: Study
    dataset: str
    rows: Rows
    metric: str
    sign: int
    victims: Victims

    @property
    def defenses(self) -> list[Scenario]:
        return sorted(dict.fromkeys(defense for by_defense in self.victims for defense in by_defense), key=rank)


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    orders = list(_orders(study, collect(study, inputs)))
    reversed_pairs = tuple(row for order in orders for row in _reversed_pairs(order))
    parts = (
        ListingPart("orders", "The order, by the mean over victims", _ORDERS, tuple(map(_means, orders))),
        ListingPart(
            "differences",
            "Pairs of defenses whose order is reversed on at least one victim",
            _DIFFERENCES,
            reversed_pairs,
        ),
    )
    return Listing(f"{study.experiment.title}: the order of the defenses, here and in the paper", parts, _NOTES)


def _orders(study: Study, results: Results) -> Iterator[_Order]:
    scenarios = attacked(study.experiment)
    for dataset in dict.fromkeys(scenario.dataset for scenario in scenarios):
        triggered = study.head(dataset).triggered
        measures: tuple[tuple[Rows, str, int], ...] = (
            ("triggered", triggered.success, triggered.sign),
            *(("clean", metric, 1) for metric in labels.METRICS),
        )
        for rows, metric, sign in measures:
            by_victim: dict[Scenario, dict[Scenario, DefinedCell]] = {}
            for scenario in scenarios:
                cell = results.defined(scenario, CLEAN if rows == "clean" else scenario.attack, metric)
                if scenario.dataset == dataset and cell and cell.paper is not None:
                    by_victim.setdefault(scenario.undefended(), {})[_defense(scenario)] = cell
            victims = [by_defense for by_defense in by_victim.values() if len(by_defense) > 1]
            if victims:
                yield _Order(study, dataset, rows, metric, sign, victims)


def _defense(scenario: Scenario) -> Scenario:
    """The scenario reduced to its data set and defenses."""
    return Scenario(scenario.dataset, NONE, seed="0", **{kind: scenario.wildcards[kind] for kind in DEFENSES})


def _means(order: _Order) -> Mapping[str, Value]:
    complete = [victim for victim in order.victims if len(victim) == len(order.defenses)]
    defenses = order.defenses if complete else []
    return {
        "dataset": labels.word(order.dataset),
        "metric": labels.METRICS[order.metric],
        "victims": len(complete),
        "paper": _ranked(
            order, {defense: mean(_printed(victim[defense]) for victim in complete) for defense in defenses}
        ),
        "here": _ranked(order, {defense: mean(victim[defense].value for victim in complete) for defense in defenses}),
    }


def _ranked(order: _Order, means: Mapping[Scenario, float]) -> str:
    best_first = sorted(means.items(), key=lambda item: -order.sign * item[1])
    return (
        ", ".join(f"{labels.defense(defense)} {labels.percent(value)}" for defense, value in best_first) or labels.DASH
    )


def _reversed_pairs(order: _Order) -> Iterator[Mapping[str, Value]]:
    """A row for each pair of defenses whose order is opposite to the paper's on at least one victim."""
    for first, second in combinations(order.defenses, 2):
        pairs = [(victim[first], victim[second]) for victim in order.victims if first in victim and second in victim]
        agreements = [_agreement(*pair) for pair in pairs]
        if "opposite" not in agreements:
            continue
        printed = [mean(_printed(pair[index]) for pair in pairs) for index in (0, 1)]
        measured = [mean(pair[index].value for pair in pairs) for index in (0, 1)]
        better, worse = (0, 1) if order.sign * (printed[0] - printed[1]) >= 0 else (1, 0)
        yield {
            "dataset": labels.word(order.dataset),
            "metric": labels.METRICS[order.metric],
            "better": labels.defense((first, second)[better]),
            "worse": labels.defense((first, second)[worse]),
            "paper_better": printed[better],
            "paper_worse": printed[worse],
            "here_better": measured[better],
            "here_worse": measured[worse],
            **{name: agreements.count(name) for name in ("same", "close", "opposite")},
            "reason": _reason(order, first, second),
        }


def _agreement(first: DefinedCell, second: DefinedCell) -> Literal["same", "close", "opposite"]:
    """Agreement on one victim: ``close`` if the paper's values are equal or the intervals here overlap."""
    printed, measured = _printed(first) - _printed(second), first.value - second.value
    low, high = zip(*((_end(cell.low, cell), _end(cell.high, cell)) for cell in (first, second)), strict=True)
    if printed == 0 or max(low) <= min(high):
        return "close"
    return "same" if printed * measured > 0 else "opposite"


def _end(limit: float | None, cell: DefinedCell) -> float:
    return cell.value if limit is None else limit


def _printed(cell: DefinedCell) -> float:
    return cell.paper.value if cell.paper is not None else 0.0


def _reason(order: _Order, first: Scenario, second: Scenario) -> str:
    differences = [difference for difference in order.study.experiment.differences if difference.of == order.rows]
    reasons = dict.fromkeys(difference.reason for difference in differences if difference.explains(first, second))
    return "; ".join(reasons) or "open question"
