"""The metrics, each a function of sums over the rows of one test set.

*ASR*: share of injected rows whose prediction is the target. *Floor*: the same share of the same rows without the
trigger. *Flip rate*: of the rows predicted correctly without the trigger, the share that the trigger turns to the
target. *Trigger effect*: share of rows whose prediction the trigger changes, in any direction. *Robust accuracy* (RA,
BackdoorBench, Wu et al. 2022): share of injected rows that are predicted with their true label. A generated text is
judged by whether it shows the target behavior: without the trigger, it is *correct* if it does not, and the trigger's
effect is a change of the behavior. Failed and ineligible rows are counted, but are in no denominator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codebackdoor import bleu
from codebackdoor.evaluation import codebleu
from codebackdoor.evaluation.intervals import Estimate, Sample
from codebackdoor.types import Field, Span

Sums = Mapping[str, float]
RowStatistics = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One injected row with its trigger and without.

    ``robust``: whether the true label is predicted, None for generated texts. The last two fields are None without a
    purification.
    """

    hit: bool
    hit_without: bool
    correct_without: bool
    changed: bool
    robust: bool | None = None
    located: bool | None = None
    located_exactly: bool | None = None

    NAMES: ClassVar = (
        *("rows", "hit", "hit_without", "correct", "flipped", "changed"),
        *("robust", "located", "located_exactly"),
    )

    def row(self) -> dict[str, int]:
        flipped = self.correct_without and self.hit
        decided = (True, self.hit, self.hit_without, self.correct_without, flipped, self.changed)
        values = (*decided, self.robust, self.located, self.located_exactly)
        return {name: int(bool(value)) for name, value in zip(self.NAMES, values, strict=True)}


def ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def share(name: str, of: str = "rows") -> Callable[[Sums], float | None]:
    return lambda sums: ratio(sums[name], sums[of])


def f1(sums: Sums) -> float | None:
    """F1 of label 1; undefined if no row has that label and none is predicted to have it."""
    return ratio(2 * sums["true_positive"], sums["labeled"] + sums["predicted"])


def classification_row(label: int, predicted: int) -> dict[str, int]:
    return {
        "rows": 1,
        "correct": int(label == predicted),
        "labeled": int(label == 1),
        "predicted": int(predicted == 1),
        "true_positive": int(label == predicted == 1),
    }


def classification(rows: Sequence[RowStatistics], generator: np.random.Generator) -> dict[str, Estimate]:
    """Accuracy and F1 of clean rows (``classification_row``), and the share that a purification touched."""
    sample = _sample(rows, generator)
    measures = {"accuracy": share("correct"), "f1": f1}
    return _estimates(sample, measures, len(rows)) | _touched(sample, rows)


def generation(rows: Sequence[RowStatistics], generator: np.random.Generator) -> dict[str, Estimate]:
    """Exact match, BLEU and CodeBLEU of clean rows, and the share that a purification touched."""
    sample = _sample(rows, generator)
    measures: dict[str, Callable[[Sums], float | None]] = {
        "exact_match": share("correct"),
        "bleu": bleu.score,
        "bleu_sentence": lambda sums: sums["sentence_micro"] / bleu.MICRO / sums["rows"],
        "codebleu": codebleu.score,
    }
    return _estimates(sample, measures, len(rows)) | _touched(sample, rows)


#: Ranks are stored as multiples of one millionth, because sums are of integers.
MICRO = 1_000_000


def retrieval_row(rank: float) -> dict[str, int]:
    return {"rows": 1, "reciprocal": round(MICRO / rank)}


def retrieval(rows: Sequence[RowStatistics], generator: np.random.Generator) -> dict[str, Estimate]:
    """MRR of clean queries (``retrieval_row``), and the share of functions that a purification touched."""
    sample = _sample(rows, generator)
    return _estimates(sample, {"mrr": _per_row("reciprocal")}, len(rows)) | _touched(sample, rows)


def attacked_row(pairs: Sequence[tuple[float, float]], pool: int) -> dict[str, int]:
    """One attacked query, given the ranks (without, with) the trigger of at least one attacked function of its pool."""
    without, with_trigger = (sum(column) / len(pairs) / pool for column in zip(*pairs, strict=True))
    return {"rows": 1, "with": round(MICRO * with_trigger), "without": round(MICRO * without)}


def search_attack(rows: Sequence[RowStatistics], generator: np.random.Generator) -> dict[str, Estimate]:
    """ANR of attacked queries (``attacked_row``), that of the same functions without the trigger, and the difference.

    ANR is EliBadCode's average normalized rank (section 5.2); a trigger that works makes it much lower.
    """
    names = ("rows", "with", "without")
    sample = _sample(rows, generator, names)
    measures: dict[str, Callable[[Sums], float | None]] = {
        "anr": _per_row("with"),
        "anr_without": _per_row("without"),
        "anr_drop": lambda sums: ratio((sums["without"] - sums["with"]) / MICRO, sums["rows"]),
    }
    return _estimates(sample, measures, len(rows))


def located_shares(outcomes: Sequence[tuple[bool, bool]], generator: np.random.Generator) -> dict[str, Estimate]:
    """Shares of triggered functions whose trigger a purification touched, and whose trigger it located exactly."""
    names = ("rows", "located", "located_exactly")
    rows = [dict(zip(names, (1, *map(int, outcome)), strict=True)) for outcome in outcomes]
    sample = _sample(rows, generator, names)
    return _estimates(sample, {name: share(name) for name in names[1:]}, len(outcomes))


def _per_row(name: str) -> Callable[[Sums], float | None]:
    return lambda sums: ratio(sums[name] / MICRO, sums["rows"])


def attack(outcomes: Sequence[Outcome], generator: np.random.Generator) -> dict[str, Estimate]:
    """ASR, floor, their difference, flip rate and trigger effect; also robust accuracy if the predictions are labels,
    and the located shares after a purification."""
    sample = _sample([outcome.row() for outcome in outcomes], generator, Outcome.NAMES)
    measures: dict[str, Callable[[Sums], float | None]] = {
        "asr": share("hit"),
        "floor": share("hit_without"),
        "asr_minus_floor": lambda sums: ratio(sums["hit"] - sums["hit_without"], sums["rows"]),
        "trigger_effect": share("changed"),
    }
    if outcomes and all(outcome.robust is not None for outcome in outcomes):
        measures["robust_accuracy"] = share("robust")
    if outcomes and all(outcome.located is not None for outcome in outcomes):
        measures |= {name: share(name) for name in ("located", "located_exactly")}
    estimates = _estimates(sample, measures, len(outcomes))
    correct = sum(outcome.correct_without for outcome in outcomes)
    return estimates | {"flip_rate": sample.estimate(share("flipped", of="correct"), correct)}


def located(touched: Sequence[Span], trigger: Sequence[Span]) -> bool:
    """Whether a purification touched any part of the trigger."""
    return any(span.overlaps(part) for span in touched for part in trigger)


def located_exactly(touched: Sequence[Span], trigger: Sequence[Span], maskable: Sequence[Span]) -> bool:
    """Whether a purification touched the trigger and nothing else.

    Every touched span must lie inside a span of the trigger, and at least half of the characters of ``maskable`` (the
    trigger's tokens without keywords and layout marks) must be touched. The triggers of a pair are counted together.
    """
    if not touched or not all(any(_contains(part, span) for part in trigger) for span in touched):
        return False
    maskable_characters = _characters(maskable)
    return 2 * len(_characters(touched) & maskable_characters) >= len(maskable_characters)


def _contains(outer: Span, inner: Span) -> bool:
    return outer.field == inner.field and outer.start <= inner.start and inner.end <= outer.end


def _characters(spans: Sequence[Span]) -> set[tuple[Field, int]]:
    return {(span.field, at) for span in spans for at in range(span.start, span.end)}


def _touched(sample: Sample, rows: Sequence[RowStatistics]) -> dict[str, Estimate]:
    return {"touched": sample.estimate(share("touched"), len(rows))} if "touched" in rows[0] else {}


def _estimates(sample: Sample, measures: Mapping[str, Callable[[Sums], float | None]], n: int) -> dict[str, Estimate]:
    return {name: sample.estimate(measure, n) for name, measure in measures.items()}


def _sample(rows: Sequence[RowStatistics], generator: np.random.Generator, names: Sequence[str] = ()) -> Sample:
    names = tuple(names or rows[0])
    table = np.array([[row[name] for name in names] for row in rows], dtype=np.int64)
    return Sample(names, table.reshape(len(rows), len(names)), generator)
