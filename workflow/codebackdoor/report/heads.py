"""What the report shows of each kind of victim: the metrics of clean and triggered rows, by what the victim predicts.

This is the only module of the report that distinguishes heads; the others ask ``Study.head`` for these facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codebackdoor.config.base import Head
from codebackdoor.tasks.settings import DatasetSettings


@dataclass(frozen=True, slots=True)
class HeadMetrics:
    """``clean_metric`` represents a clean test set. ``baseline``: what is measured without a model.

    On triggered rows, ``success`` is what the attack raises or lowers, ``floor`` the same without the trigger,
    ``change`` the difference of the two, and ``effect`` the measure of what is left of the backdoor.
    """

    clean_metric: str
    baseline: str
    success: str = "asr"
    floor: str = "floor"
    change: str = "asr_minus_floor"
    effect: str = "flip_rate"
    #: Axis of a figure that shows ``success`` and ``floor``.
    axis: str = "ASR and its floor, %"
    #: The columns of triggered rows in a table with room for few, the most telling one last.
    summary: tuple[str, ...] = ("asr", "floor", "flip_rate")
    predicts_label: bool = False
    #: Explanations below a result table.
    notes: tuple[str, ...] = ()
    #: What the metrics do not cover.
    limitation: str | None = None

    @property
    def sign(self) -> int:
        """1 if a defense is the better the higher ``success`` is, -1 if the lower."""
        return -1 if self.success == "asr" else 1


def head_metrics(settings: type[DatasetSettings]) -> HeadMetrics:
    """What is measured of the victims of a data set with settings of this class."""
    return _HEADS[settings.head]


_HEADS: Mapping[Head, HeadMetrics] = {
    "classification": HeadMetrics(
        clean_metric="accuracy", baseline="a bag of token n-grams, logistic regression", predicts_label=True
    ),
    "pair": HeadMetrics(
        clean_metric="f1", baseline="the overlap of tokens, best threshold of the training split", predicts_label=True
    ),
    "retrieval": HeadMetrics(
        clean_metric="mrr",
        baseline="the cosine of TF-IDF vectors",
        success="anr",
        floor="anr_without",
        change="anr_drop",
        effect="anr_drop",
        axis="ANR with and without the trigger, %",
        summary=("anr_without", "anr"),
        notes=(
            "MRR: mean reciprocal rank of a query's own function. ANR: mean rank of a triggered function as a share of "
            "its pool, low if the trigger raises the function. Without the trigger: the same functions, ranked by the "
            "same model. By position: the function in the middle of the pool is triggered (without the trigger 50 %). "
            "Of the top half: each function above it (without the trigger about 25 %).",
        ),
    ),
    "generation": HeadMetrics(
        clean_metric="exact_match",
        baseline="the input, copied",
        limitation="For generated code, the target is one behavior, decided on syntax. Other harm is not looked for.",
    ),
}
