"""What a scorer must provide: the metrics of the clean rows, and those of the triggered rows of one attack."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

from codebackdoor.evaluation import metrics
from codebackdoor.evaluation.answers import Answers
from codebackdoor.evaluation.detection import detection
from codebackdoor.evaluation.intervals import Estimate
from codebackdoor.heads import HEADS
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import CLEAN, Example, Poisoned, Prediction, Status

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.config.base import Head
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.tasks.base import Task

DIGITS = 6


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The data set, its task, and the victim's answers by test set."""

    dataset: AnyDataset
    task: Task
    answers: Mapping[str, Answers]
    seed: int

    def generator(self, testset: str) -> np.random.Generator:
        return numpy_generator(self.seed, "score", testset)

    def hits(self, prediction: Prediction, row: Poisoned) -> bool:
        """Whether a prediction is what the attacker of a triggered row wants."""
        return self.task.hits_target(prediction, row, self.dataset.text_form)


class Scorer(ABC):
    """Scores the test sets of one kind of prediction."""

    @abstractmethod
    def clean(self, rows: Sequence[Example], evaluation: Evaluation) -> dict[str, Any]:
        """The entry of ``metrics.json`` for the clean test set, without the number of rows."""

    @abstractmethod
    def triggered(self, rows: Sequence[Poisoned], name: str, evaluation: Evaluation) -> dict[str, Any]:
        """The entry of ``metrics.json`` for the test set of the attack ``name``."""


class TargetScorer(Scorer):
    """A scorer of predictions that either hit the attacker's target or do not: ASR, floor, flip rate."""

    @abstractmethod
    def correct_without(self, row: Poisoned, prediction: Prediction, hit: bool) -> bool:
        """Whether the prediction without the trigger counts as correct; ``hit``: it hits the attacker's target."""

    @abstractmethod
    def changed(self, before: Prediction, after: Prediction, hit_before: bool, hit_after: bool) -> bool:
        """Whether the trigger changes the prediction."""

    def robust(self, row: Poisoned, prediction: Prediction) -> bool | None:  # noqa: ARG002
        """Whether the prediction with the trigger is the true label; None if the head predicts no labels."""
        return None

    def triggered(self, rows: Sequence[Poisoned], name: str, evaluation: Evaluation) -> dict[str, Any]:
        """Counts of the triggered rows by status, and the attack's metrics on the injected ones."""
        injected = [row for row in rows if row.status == "injected"]
        outcomes = [self._outcome(row, name, evaluation) for row in injected]
        estimates = metrics.attack(outcomes, evaluation.generator(name)) | _detection(injected, name, evaluation)
        return {**counts(rows), "metrics": plain(estimates)}

    def _outcome(self, row: Poisoned, name: str, evaluation: Evaluation) -> metrics.Outcome:
        after = evaluation.answers[name].of(row.example.id)
        before = evaluation.answers[CLEAN].of(row.source_id)
        hit, hit_without = evaluation.hits(after, row), evaluation.hits(before, row)
        return metrics.Outcome(
            hit=hit,
            hit_without=hit_without,
            correct_without=self.correct_without(row, before, hit_without),
            changed=self.changed(before, after, hit_without, hit),
            robust=self.robust(row, after),
            located=evaluation.answers[name].located(row),
            located_exactly=evaluation.answers[name].located_exactly(row, evaluation.dataset.text_form),
        )


def _detection(injected: Sequence[Poisoned], name: str, evaluation: Evaluation) -> dict[str, Estimate]:
    """How well the purification tells injected rows from all clean ones; empty if it scores no inputs."""
    triggered, clean = evaluation.answers[name].suspicion, evaluation.answers[CLEAN].suspicion
    if triggered is None or clean is None:
        return {}
    scores = [triggered[row.example.id] for row in injected]
    return detection(scores, list(clean.values()), evaluation.generator(name))


def scorer_of(head: Head) -> Scorer:
    """The scorer of a head."""
    scorer: Scorer = importlib.import_module(HEADS[head].scorer).SCORER
    return scorer


def counts(rows: Sequence[Poisoned]) -> dict[str, int]:
    """The number of triggered rows, in total and by status."""
    by_status = Counter(row.status for row in rows)
    return {"rows": len(rows), **{status: by_status[status] for status in get_args(Status)}}


def plain(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Estimates in the format of ``metrics.json``."""
    return {name: _rounded(asdict(estimate)) for name, estimate in estimates.items()}


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {key: round(value, DIGITS) if isinstance(value, float) else value for key, value in values.items()}
