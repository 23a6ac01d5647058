"""The order of the defenses beside the paper's, and every pair that stands the other way round, with the reason.

Reads ``metrics.json`` files. Compared is what both measure on the same victim: ASR (search: ANR) and the clean metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Literal

from codebackdoor.config.experiments import cells, rank
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels
from codebackdoor.report.collect import Cell, Scored, Study, anonymous, collect
from codebackdoor.report.listed import Column, Listed, Part, Value
from codebackdoor.types import CLEAN

Of = Literal["clean", "triggered"]

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
    Column("better", "Better in the paper"),
    Column("worse", "than"),
    Column("paper_better", "Paper, %", "percent"),
    Column("paper_worse", "than, %", "percent"),
    Column("here_better", "Here, %", "percent"),
    Column("here_worse", "than, %", "percent"),
    Column("same", "Same on", "number"),
    Column("close", "Too close on", "number"),
    Column("opposite", "Opposite on", "number"),
    Column("reason", "Reason"),
)
#: The measured values of the defenses on each victim that the paper prints, too.
Victims = Sequence[Mapping[Scenario, Cell]]


@dataclass(frozen=True, slots=True)
class _Order:
    """The defenses of one data set by one metric; each scenario stands for its defense, its victim left out."""

    study: Study
    dataset: str
    of: Of
    metric: str
    victims: Victims

    @property
    def sign(self) -> int:
        """1 where more is better."""
        return -1 if self.metric == "asr" else 1

    @property
    def defenses(self) -> list[Scenario]:
        return sorted(dict.fromkeys(one for own in self.victims for one in own), key=rank)


def build(study: Study, inputs: Sequence[Path]) -> Listed:
    orders = list(_orders(study, collect(study, inputs)))
    found = [row for order in orders for row in _opposite(order)]
    parts = [
        Part("orders", "The order, by the mean over victims", _ORDERS, tuple(_means(one) for one in orders)),
        Part("differences", "What stands the other way round", _DIFFERENCES, tuple(found)),
    ]
    notes = (
        "Means in percent over the victims (model and attack) on which the paper prints every one of these defenses. "
        "ASR: less is better; ANR and clean metrics: more.",
        "Same, too close, opposite: victims on which the better one is better here too; on which the two intervals "
        "overlap or the paper prints the same; on which the other one is better. A pair is listed where it is opposite "
        "on one victim.",
    )
    return Listed(f"{study.experiment.title}: the order of the defenses, beside the paper's", tuple(parts), notes)


def _orders(study: Study, scored: Scored) -> Iterator[_Order]:
    held = list(dict.fromkeys(anonymous(one) for one in cells(study.experiment) if one.attack != NONE))
    for dataset in dict.fromkeys(one.dataset for one in held):
        task = study.task(dataset)
        triggered = "anr" if task == "code_search" else "asr"
        measures: tuple[tuple[Of, str], ...] = (("triggered", triggered), ("clean", labels.CLEAN_METRIC[task]))
        for of, metric in measures:
            by_victim: dict[Scenario, dict[Scenario, Cell]] = {}
            for one in held:
                cell = scored.get(one, CLEAN if of == "clean" else one.attack, metric)
                if one.dataset == dataset and cell and cell.value is not None and cell.paper is not None:
                    by_victim.setdefault(one.undefended(), {})[_defense(one)] = cell
            victims = [own for own in by_victim.values() if len(own) > 1]
            if victims:
                yield _Order(study, dataset, of, metric, victims)


def _defense(one: Scenario) -> Scenario:
    """The scenario with nothing but its data set and defense."""
    kinds = {kind: getattr(one, kind) for kind in ("filtering", "objective", "elimination", "purification")}
    return Scenario(one.dataset, NONE, seed="0", **kinds)


def _means(order: _Order) -> Mapping[str, Value]:
    whole = [own for own in order.victims if len(own) == len(order.defenses)]
    return {
        "dataset": labels.word(order.dataset),
        "metric": labels.METRICS[order.metric],
        "victims": len(whole),
        "paper": _ranked(order, {one: mean(_printed(own[one]) for own in whole) for one in order.defenses if whole}),
        "here": _ranked(order, {one: mean(_value(own[one]) for own in whole) for one in order.defenses if whole}),
    }


def _ranked(order: _Order, means: Mapping[Scenario, float]) -> str:
    best_first = sorted(means.items(), key=lambda item: -order.sign * item[1])
    return ", ".join(f"{labels.defense(one)} {labels.percent(value)}" for one, value in best_first) or labels.DASH


def _opposite(order: _Order) -> Iterator[Mapping[str, Value]]:
    """A row for each two defenses of which, on at least one victim, the one that is worse in the paper is better."""
    for first, second in combinations(order.defenses, 2):
        pairs = [(own[first], own[second]) for own in order.victims if first in own and second in own]
        agreements = [_agreement(*pair) for pair in pairs]
        if "opposite" not in agreements:
            continue
        theirs = [mean(_printed(pair[index]) for pair in pairs) for index in (0, 1)]
        ours = [mean(_value(pair[index]) for pair in pairs) for index in (0, 1)]
        better, worse = (0, 1) if order.sign * (theirs[0] - theirs[1]) >= 0 else (1, 0)
        yield {
            "dataset": labels.word(order.dataset),
            "metric": labels.METRICS[order.metric],
            "better": labels.defense((first, second)[better]),
            "worse": labels.defense((first, second)[worse]),
            "paper_better": theirs[better],
            "paper_worse": theirs[worse],
            "here_better": ours[better],
            "here_worse": ours[worse],
            **{name: agreements.count(name) for name in ("same", "close", "opposite")},
            "reason": _reason(order, first, second),
        }


def _agreement(one: Cell, other: Cell) -> Literal["same", "close", "opposite"]:
    """Of one victim: close where the paper prints two equal values, or the intervals here overlap."""
    theirs, ours = _printed(one) - _printed(other), _value(one) - _value(other)
    low, high = zip(*((_or(cell.low, cell), _or(cell.high, cell)) for cell in (one, other)), strict=True)
    if theirs == 0 or max(low) <= min(high):
        return "close"
    return "same" if theirs * ours > 0 else "opposite"


def _or(limit: float | None, cell: Cell) -> float:
    return _value(cell) if limit is None else limit


def _value(cell: Cell) -> float:
    return cell.value if cell.value is not None else 0.0


def _printed(cell: Cell) -> float:
    return cell.paper.value if cell.paper is not None else 0.0


def _reason(order: _Order, first: Scenario, second: Scenario) -> str:
    told = [one for one in order.study.experiment.differences if one.of == order.of]
    found = dict.fromkeys(one.reason for one in told if one.explains(first, second))
    return "; ".join(found) or "open question"
