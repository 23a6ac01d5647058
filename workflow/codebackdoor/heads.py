"""The facts about each kind of output layer, or *head*, of a victim that data, scoring and reports need.

Code reads the facts from a head's object here instead of comparing names, so that a new head takes only one entry and
one scorer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from codebackdoor.config.base import Head
from codebackdoor.types import Field

_SCORERS = "codebackdoor.evaluation.scoring"


@dataclass(frozen=True, slots=True)
class TriggeredMetrics:
    """The metrics of how well a trigger works.

    ``success``: what the attacker achieves. ``floor``: the same metric of the same rows without the trigger.
    ``change``: the difference of the two. ``effect``: the remaining backdoor; near zero if there is none.
    ``summary``: the columns of a small table, the most informative one last. ``axis``: the label of an axis that shows
    success and floor. ``high_is_backdoored``: whether a working trigger raises ``success``.
    """

    success: str
    floor: str
    change: str
    effect: str
    summary: tuple[str, ...]
    axis: str
    high_is_backdoored: bool

    @property
    def sign(self) -> int:
        """1 if a higher ``success`` means a better defense, else -1."""
        return -1 if self.high_is_backdoored else 1


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """One kind of output layer.

    ``fields``: the fields of an example that a victim reads by default, in this order; a task may name the same number
    of other fields. ``learns``: the field that a victim is trained to predict; None if it learns from pairs of matching
    texts. ``clean_metrics``: metrics of rows without a trigger, higher is better, the main one first; a task may choose
    another one as its main metric. ``scorer``: module with the head's ``SCORER``. ``notes`` explain the metrics below a
    table; ``limitation`` is what they do not cover.
    """

    name: Head
    fields: tuple[Field, ...]
    learns: Literal["label", "target"] | None
    clean_metrics: tuple[str, ...]
    triggered: TriggeredMetrics
    scorer: str
    notes: tuple[str, ...] = ()
    limitation: str | None = None

    @property
    def clean_metric(self) -> str:
        """The metric that represents the clean test set and selects the best epoch."""
        return self.clean_metrics[0]

    @property
    def predicts_label(self) -> bool:
        """Whether a victim predicts one of a few labels, so that a scan searches a trigger for each of them."""
        return self.learns == "label"

    @property
    def generates(self) -> bool:
        """Whether a victim writes a text."""
        return self.learns == "target"

    @property
    def ranks(self) -> bool:
        """Whether a victim ranks the functions of a pool for a query."""
        return self.learns is None

    @property
    def reads_pairs(self) -> bool:
        """Whether an example has two functions, each of which may occur in many examples."""
        return "code_b" in self.fields


_ASR = TriggeredMetrics(
    success="asr",
    floor="floor",
    change="asr_minus_floor",
    effect="flip_rate",
    summary=("asr", "floor", "flip_rate"),
    axis="ASR and its floor, %",
    high_is_backdoored=True,
)
#: A working trigger moves a function up, to a lower rank.
_ANR = TriggeredMetrics(
    success="anr",
    floor="anr_without",
    change="anr_drop",
    effect="anr_drop",
    summary=("anr_without", "anr"),
    axis="ANR with and without the trigger, %",
    high_is_backdoored=False,
)
_RANKING = (
    "MRR: mean reciprocal rank of a query's own function. ANR: mean rank of a triggered function as a share of its "
    "pool, low if the trigger raises the function. Without the trigger: the same functions, ranked by the same model. "
    "By position: the function in the middle of the pool is triggered (without the trigger 50%). Of the top half: "
    "each function above it (without the trigger about 25%)."
)

_ONE_BEHAVIOR = "For generated code, the target is one behavior, decided on syntax. Other harm is not looked for."

HEADS: Mapping[Head, HeadSpec] = {
    head.name: head
    for head in (
        HeadSpec("classification", ("code",), "label", ("accuracy", "f1"), _ASR, f"{_SCORERS}.labels"),
        HeadSpec("pair", ("code", "code_b"), "label", ("accuracy", "f1"), _ASR, f"{_SCORERS}.labels"),
        HeadSpec("retrieval", ("query", "code"), None, ("mrr",), _ANR, f"{_SCORERS}.ranks", (_RANKING,)),
        HeadSpec(
            "generation",
            ("code",),
            "target",
            ("bleu", "exact_match", "bleu_sentence", "codebleu"),
            _ASR,
            f"{_SCORERS}.texts",
            limitation=_ONE_BEHAVIOR,
        ),
    )
}
