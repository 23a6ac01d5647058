"""What unlearning costs on held-out samples, and how many predictions the inverted triggers still turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from codebackdoor.defenses.elimination import Trigger
from codebackdoor.defenses.elimination.inversion.position import trigger_spans
from codebackdoor.defenses.elimination.inversion.spans import insert
from codebackdoor.defenses.elimination.tuning import CLEAN_POOL
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.pools import pools
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import Example, Pair
from codebackdoor.victims.forward import similarities
from codebackdoor.victims.inference import NOT_FINITE, predict_logits, text_vectors
from codebackdoor.victims.retrieval import Retriever, reciprocal_ranks
from codebackdoor.victims.victim import Victim

#: Share of the clean samples on which the cost of unlearning is measured.
HELD_OUT = 0.2


@dataclass(frozen=True, slots=True)
class Round:
    """A trigger that was unlearned in ``passes`` passes, and the share of held-out predictions that it turns.

    The shares are of ``flip_rows``: rows of other labels that are predicted correctly and have a position for the
    trigger. The rate afterwards is a share of those that the model predicts correctly after the last round.

    For code search, a flip row is a query with the target words appended, and the function of another row of its pool
    that ranks below the query's own function; it is turned if the trigger makes it rank above.
    """

    trigger: str
    target_label: int
    position: str
    margin: float | None
    passes: int
    flip_rows: int
    flip_rate_before: float | None
    flip_rate_after: float | None


@dataclass(frozen=True, slots=True)
class Cost:
    """The accuracy (code search: MRR) on ``rows`` held-out samples, and the rounds.

    ``flip_rows``, ``flip_rate_before`` and ``flip_rate_after`` are those of the first round. ``is_clean`` says whether
    the scan after the last round flags nothing, with this ``margin``; both are None if no scan can tell.
    """

    rows: int
    accuracy_before: float
    accuracy_after: float
    flip_rows: int
    flip_rate_before: float | None
    flip_rate_after: float | None
    unlearned_on: int
    rounds: tuple[Round, ...]
    is_clean: bool | None
    margin: float | None


def held_out(clean: Sequence[Example], seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Split the samples into those to unlearn on and a share of every label to measure on."""
    order = [clean[index] for index in numpy_generator(seed, "checkpoint", "held out").permutation(len(clean))]
    measured: list[Example] = []
    for label in sorted({str(example.label) for example in order}):
        of_label = [example for example in order if str(example.label) == label]
        measured += of_label[: round(HELD_OUT * len(of_label))]
    if not measured:
        raise UserError("too few clean samples: some have to be held out to measure what unlearning costs")
    # by identity, since ids of a user's rows may repeat
    measured_ids = {id(example) for example in measured}
    return tuple(example for example in order if id(example) not in measured_ids), tuple(measured)


def flips(view: DefenderView, victim: Victim, trigger: Trigger, pair: Pair) -> tuple[int, float | None]:
    """Rows of other labels that the victim predicts correctly, and the share of them that the trigger turns."""
    if HEADS[victim.head].ranks:
        return _lifted(view, victim, trigger, pair)
    rows = [row for row in view.clean if row.label != trigger.target_label]
    spans = trigger_spans(view, rows, trigger.position, trigger.occurrences, pair)
    placed = [(row, row_spans) for row, row_spans in zip(rows, spans, strict=True) if row_spans is not None]
    untriggered = [row for row, _ in placed]
    correct = _predicted(victim, untriggered) == _truth(untriggered)
    stamped = [insert(row, row_spans, trigger.text) for row, row_spans in placed]
    turned = _predicted(victim, stamped) == trigger.target_label
    return int(correct.sum()), float(turned[correct].mean()) if correct.any() else None


def _lifted(view: DefenderView, victim: Victim, trigger: Trigger, pair: Pair) -> tuple[int, float | None]:
    """The number of flip rows (``Round``), and the share of them in which the trigger lifts the other row's function
    above the query's own."""
    spans = trigger_spans(view, view.clean, trigger.position, trigger.occurrences, pair)
    placed = [(row, row_spans) for row, row_spans in zip(view.clean, spans, strict=True) if row_spans is not None]
    with_words = [replace(row, query=f"{row.query} {trigger.target_word}") for row, _ in placed]
    untriggered = victim.tokenize(with_words)
    stamped = victim.tokenize([insert(row, row_spans, trigger.text) for row, row_spans in placed])
    query, code = (text_vectors(victim, [texts[field].ids for texts in untriggered]) for field in (0, 1))
    lifted = text_vectors(victim, [texts[1].ids for texts in stamped])
    below = above = 0
    for pool in pools(len(placed), CLEAN_POOL):
        rows = slice(pool.start, pool.stop)
        before, after = (similarities(victim, query[rows, None], vectors[None, rows]) for vectors in (code, lifted))
        answer = before.diagonal()[:, None]
        below += int((before < answer).sum())
        above += int(((before < answer) & (after > answer)).sum())
    return below, above / below if below else None


def by_chance(view: DefenderView) -> float:
    """The accuracy of a model that ignores its input: the most frequent label, for retrieval random ranks."""
    if not HEADS[view.victim.head].ranks:
        return float(np.bincount(_truth(view.clean)).max() / len(view.clean))
    ranks = [rank for pool in pools(len(view.clean), CLEAN_POOL) for rank in range(1, len(pool) + 1)]
    return float(np.mean(1 / np.array(ranks)))


def accuracy(victim: Victim, rows: Sequence[Example]) -> float:
    if not HEADS[victim.head].ranks:
        return float(np.mean(_predicted(victim, rows) == _truth(rows)))
    predictions = Retriever(victim, rows, CLEAN_POOL).clean()
    if not np.isfinite([prediction.confidence for prediction in predictions]).all():
        raise UserError(NOT_FINITE)
    return float(np.mean(reciprocal_ranks(predictions)))


def _truth(rows: Sequence[Example]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([row.label for row in rows], dtype=np.int64)


def _predicted(victim: Victim, rows: Sequence[Example]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The label that the victim predicts for each row. UserError where it returns NaN or infinite values."""
    logits = predict_logits(victim, [[text.ids for text in texts] for texts in victim.tokenize(rows)])
    if not bool(torch.isfinite(logits).all()):
        raise UserError(NOT_FINITE)
    labels: np.ndarray[tuple[int], np.dtype[np.int64]] = logits.argmax(dim=1).numpy()
    return labels
