"""The papers' claims about their methods, and whether they hold in this run.

Reads ``metrics.json`` files. A claim compares a method with others, or with the undefended victim, by the paper's own
metric. The same comparison is also made by the remaining backdoor (flip rate), since the ASR also falls if a defense
teaches the opposite backdoor. Each victim (model, attack and rate; seeds averaged) counts once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

from codebackdoor.config.experiments import cells, defenses_by_kind
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.sections import DEFENSES
from codebackdoor.defenses.purification.settings import PurificationSettings
from codebackdoor.evaluation.intervals import interval_of_mean
from codebackdoor.evaluation.scoring.base import DIGITS
from codebackdoor.report import labels, papers
from codebackdoor.report.collect import DefinedCell, Results, collect
from codebackdoor.report.study import Study, anonymous
from codebackdoor.report.tables.listing import Column, Listing, ListingPart, Marked, Value
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import CLEAN

Verdict = Literal["holds", "does not hold", "undecided"]
COLUMNS = (
    Column("paper", "Paper"),
    Column("claim", "Claim"),
    Column("task", "Task"),
    Column("against", "Against"),
    Column("victims", "Victims", "number"),
    Column("difference", "By the paper's metric, points", "points"),
    Column("verdict", "Verdict"),
    Column("left", "By the remaining backdoor, points", "points"),
    Column("left_verdict", "Verdict"),
)
NOTES = (
    "Difference: the method's mean over the victims minus the mean of what it is compared with; below 0, the method is "
    "better (the sign of the ANR is reversed, because more is better). For a cost, the cost itself. In brackets the "
    "95% bootstrap interval over victims; of two victims, that is the lower and the higher one; of one, it is over "
    "its test rows or, with several seeds, their range.",
    "Holds: the whole interval is below 0, or at most the bound that the claim names. Does not hold: no part of it is. "
    "Undecided: a part of it is.",
    "Remaining backdoor: the flip rate (retrieval: the drop of the ANR), which is near 0 for a benign victim.",
)


#: Differences below this share, which print as 0.0 points, are ties.
_TIE = 0.0005


@dataclass(frozen=True, slots=True)
class _Difference:
    """The method's value minus the compared one's, on one victim, with the interval over its test rows."""

    value: float
    low: float
    high: float


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    results = collect(study, inputs)
    rows = tuple(row for claim in papers.claims() for row in _rows(study, results, claim))
    return Listing(
        f"{study.experiment.title}: what the papers claim", (ListingPart("claims", "Claims", COLUMNS, rows),), NOTES
    )


def _rows(study: Study, results: Results, claim: papers.Claim) -> Iterator[Mapping[str, Value]]:
    """One row for each task and each compared method, if this experiment has both methods."""
    by_task: dict[str, dict[Scenario, dict[str, Scenario]]] = {}
    for scenario in dict.fromkeys(map(anonymous, cells(study.experiment))):
        name = _paper_name(study, scenario)
        task = study.task(scenario.dataset)
        if scenario.attack != NONE and name is not None and (not claim.tasks or task in claim.tasks):
            by_task.setdefault(task, {}).setdefault(scenario.undefended(), {})[name] = scenario
    for task, victims in by_task.items():
        for compared in claim.than or (papers.UNDEFENDED_VICTIM,):
            pairs = [
                (by_name[claim.defense], by_name[compared])
                for by_name in victims.values()
                if claim.defense in by_name and compared in by_name
            ]
            row = _row(study, results, claim, pairs)
            if row is not None:
                against = labels.UNDEFENDED if compared == papers.UNDEFENDED_VICTIM else labels.word(compared)
                yield {
                    "paper": claim.paper,
                    "claim": claim.sentence,
                    "task": labels.word(task),
                    "against": against,
                } | row


def _paper_name(study: Study, scenario: Scenario) -> str | None:
    """The papers' name for a single defense; None for combinations.

    A variant that the experiment does not map to a paper's name keeps its own name, or its method's if
    the settings name variants by a field (``named_by``).
    """
    used = list(defenses_by_kind(scenario).items())
    if not used:
        return papers.UNDEFENDED_VICTIM
    if len(used) > 1:
        return None
    [(kind, name)] = used
    section = DEFENSES[kind]
    settings = study.settings_class(section, name)
    if issubclass(settings, PurificationSettings) and settings.named_by is not None:
        return str(study.variant(section, name)["method"])
    return papers.their_name(study.experiment, name)


def _row(
    study: Study, results: Results, claim: papers.Claim, pairs: Sequence[tuple[Scenario, Scenario]]
) -> dict[str, Value] | None:
    """The differences by the paper's metric and by the remaining backdoor; None if nothing is measured."""
    if claim.metric == "clean_cost":
        costs = [cost for scenario, _ in pairs if (cost := _cost(study, results, scenario)) is not None]
        return _judged(costs, claim.bound, "difference", "verdict") if costs else None
    successes = [difference for pair in pairs if (difference := _success(study, results, *pair)) is not None]
    effects = [difference for pair in pairs if (difference := _effect(study, results, *pair)) is not None]
    if not successes:
        return None
    row = _judged(successes, claim.bound, "difference", "verdict")
    if not effects:
        return row
    remaining = _judged(effects, claim.bound, "left", "left_verdict")
    if len(effects) < len(successes) and isinstance(average := remaining["left"], Marked):
        # a victim that predicts one class has no flip rate
        remaining["left"] = Marked(average.value, f"{average.mark}, {len(effects)} of {len(successes)} victims")
    return remaining | row


def _cost(study: Study, results: Results, scenario: Scenario) -> _Difference | None:
    """The loss on clean rows due to the defense, in the task's metric."""
    metric = study.dataset_class(scenario.dataset).clean_metric
    return _difference(results, metric, CLEAN, scenario.undefended(), scenario)


def _success(study: Study, results: Results, scenario: Scenario, compared: Scenario) -> _Difference | None:
    """The difference of the ASR or, with the opposite sign, of the ANR, of which more is better."""
    triggered = study.head(scenario.dataset).triggered
    pair = (scenario, compared) if triggered.high_is_backdoored else (compared, scenario)
    return _difference(results, triggered.success, scenario.attack, *pair)


def _effect(study: Study, results: Results, scenario: Scenario, compared: Scenario) -> _Difference | None:
    """The difference of the trigger's remaining effect."""
    effect = study.head(scenario.dataset).triggered.effect
    return _difference(results, effect, scenario.attack, scenario, compared)


def _difference(
    results: Results, metric: str, testset: str, minuend: Scenario, subtrahend: Scenario
) -> _Difference | None:
    first, second = (results.defined(scenario, testset, metric) for scenario in (minuend, subtrahend))
    if first is None or second is None:
        return None
    (low, high), (second_low, second_high) = _ends(first), _ends(second)
    return _Difference(first.value - second.value, low - second_high, high - second_low)


def _ends(cell: DefinedCell) -> tuple[float, float]:
    return cell.value if cell.low is None else cell.low, cell.value if cell.high is None else cell.high


def _judged(differences: Sequence[_Difference], bound: float | None, name: str, verdict_name: str) -> dict[str, Value]:
    """The mean difference with its interval, and whether the claim that it is below the bound holds."""
    values = [difference.value for difference in differences]
    ends = (differences[0].low, differences[0].high)
    if len(values) > 1:
        ends = interval_of_mean(values, numpy_generator(0, "claims"))
    # rounded like the metrics
    low, high = (round(end, DIGITS) for end in ends)
    # a claim with a bound says "at most", and the bound itself satisfies it; others say "less", and a tie does not
    limit = -_TIE if bound is None else bound
    verdict: Verdict = "holds" if high <= limit else "does not hold" if low > limit else "undecided"
    average = Marked(mean(values), f" [{labels.points(low)}, {labels.points(high)}]")
    return {"victims": len(values), name: average, verdict_name: verdict}
