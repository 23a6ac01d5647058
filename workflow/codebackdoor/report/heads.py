"""What the report shows of each kind of victim: the metrics of clean and triggered rows, by what the victim predicts.

This is the only place of the report that tells heads apart; other modules ask ``Study.head`` for these facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codebackdoor.config.base import Head


@dataclass(frozen=True, slots=True)
class HeadMetrics:
    """``clean``: the metric that represents a clean test set. ``baseline``: what is measured without a model.

    On triggered rows, ``success`` is what the attack raises or lowers, ``floor`` the same without the trigger,
    ``change`` the difference of the two, and ``effect`` the measure of what is left of the backdoor.
    """

    clean: str
    baseline: str
    success: str = "asr"
    floor: str = "floor"
    change: str = "asr_minus_floor"
    effect: str = "flip_rate"
    #: Axis of a figure that shows ``success`` and ``floor``.
    axis: str = "ASR and its floor, %"
    #: Metrics of triggered rows in the table of seeds; the last is shown for each seed.
    seeds: tuple[str, ...] = ("asr", "floor", "flip_rate")
    has_labels: bool = False
    #: Whether victims write code, on which the target is a behavior.
    writes_code: bool = False
    #: Explanations below a result table.
    notes: tuple[str, ...] = ()

    @property
    def sign(self) -> int:
        """1 if a defense is the better the higher ``success`` is, -1 if the lower."""
        return -1 if self.success == "asr" else 1


HEAD_METRICS: Mapping[Head, HeadMetrics] = {
    "classification": HeadMetrics(
        clean="accuracy", baseline="a bag of token n-grams, logistic regression", has_labels=True
    ),
    "pair": HeadMetrics(
        clean="f1", baseline="the overlap of tokens, best threshold of the training split", has_labels=True
    ),
    "retrieval": HeadMetrics(
        clean="mrr",
        baseline="the cosine of TF-IDF vectors",
        success="anr",
        floor="anr_without",
        change="anr_drop",
        effect="anr_drop",
        axis="ANR with and without the trigger, %",
        seeds=("anr_without", "anr"),
        notes=(
            "MRR: mean reciprocal rank of a query's own function. ANR: mean rank of a triggered function as a share of "
            "its pool, low if the trigger raises the function. Without the trigger: the same functions, ranked by the "
            "same model. By position: the function in the middle of the pool is triggered (without the trigger 50 %). "
            "Of the top half: each function above it (without the trigger about 25 %).",
        ),
    ),
    "generation": HeadMetrics(clean="exact_match", baseline="the input, copied", writes_code=True),
}
