"""What unlearning costs, and what the inverted triggers still turn: measured on samples that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from codebackdoor.defenses.elimination import Trigger
from codebackdoor.defenses.elimination.elibadcode.position import places, put
from codebackdoor.defenses.elimination.last_layer import POOL
from codebackdoor.errors import UserError
from codebackdoor.pools import pools
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import DefenderView, Example, Pair
from codebackdoor.victims.forward import similarities
from codebackdoor.victims.inference import NOT_FINITE, answers, text_vectors
from codebackdoor.victims.retrieval import Searcher
from codebackdoor.victims.victim import Victim

#: Share of the clean samples on which the cost of unlearning is measured.
HELD_OUT = 0.2


@dataclass(frozen=True, slots=True)
class Round:
    """A trigger that was unlearned, in so many ``passes``, and the share of held-out answers that it turns.

    The shares are of ``flip_rows``: those of other labels that are answered correctly and have a place for it; the rate
    afterwards is of those that the model answers correctly after the last round.

    For code search a ``flip_row`` is a pair of a query with the target words behind it and the function of another row
    of its pool that ranks below the query's own; turned, it ranks above.
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
    """Shares of ``rows`` that were not unlearned on and are answered correctly (code search: MRRs); the rounds.

    ``flip_rows``, ``flip_rate_before`` and ``flip_rate_after`` are those of the first round. ``is_clean`` says whether
    the scan after the last round flags nothing, with this ``margin``; both are None where no scan can say so.
    """

    rows: int
    accuracy_before: float
    accuracy_after: float
    flip_rows: int
    flip_rate_before: float | None
    flip_rate_after: float | None
    unlearnt_on: int
    rounds: tuple[Round, ...]
    is_clean: bool | None
    margin: float | None


def held_out(clean: Sequence[Example], seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Samples to unlearn on, and of every label a share to measure on."""
    order = [clean[index] for index in numpy_generator(seed, "checkpoint", "held out").permutation(len(clean))]
    held: list[Example] = []
    for label in sorted({str(one.label) for one in order}):
        own = [one for one in order if str(one.label) == label]
        held += own[: round(HELD_OUT * len(own))]
    if not held:
        raise UserError("too few clean samples: some have to be held out, to measure what unlearning costs")
    # by identity: rows of other people may share an id
    kept = {id(one) for one in held}
    return tuple(one for one in order if id(one) not in kept), tuple(held)


def flips(view: DefenderView, victim: Victim, trigger: Trigger, pair: Pair) -> tuple[int, float | None]:
    """Rows of other labels that the victim answers correctly, and the share of them that the trigger turns."""
    if victim.head == "retrieval":
        return _lifted(view, victim, trigger, pair)
    rows = [one for one in view.clean if one.label != trigger.target_label]
    found = places(view, rows, trigger.position, trigger.occurrences, pair)
    placed = [(row, own) for row, own in zip(rows, found, strict=True) if own is not None]
    plain = [row for row, _ in placed]
    right = _answers(victim, plain) == _truth(plain)
    turned = _answers(victim, [put(row, own, trigger.text) for row, own in placed]) == trigger.target_label
    return int(right.sum()), float(turned[right].mean()) if right.any() else None


def _lifted(view: DefenderView, victim: Victim, trigger: Trigger, pair: Pair) -> tuple[int, float | None]:
    """Pairs of a query, with the target words behind it, and another row's function that the victim ranks below the
    query's own; and the share of them in which the trigger lifts that function above it."""
    found = places(view, view.clean, trigger.position, trigger.occurrences, pair)
    placed = [(row, own) for row, own in zip(view.clean, found, strict=True) if own is not None]
    asked = [replace(row, query=f"{row.query} {trigger.target_word}") for row, _ in placed]
    plain, stamped = victim.read(asked), victim.read([put(row, own, trigger.text) for row, own in placed])
    query, code = (text_vectors(victim, [texts[field].ids for texts in plain]) for field in (0, 1))
    lifted = text_vectors(victim, [texts[1].ids for texts in stamped])
    below = above = 0
    for pool in pools(len(placed), POOL):
        own = slice(pool.start, pool.stop)
        without, having = (similarities(victim, query[own, None], one[None, own]) for one in (code, lifted))
        answer = without.diagonal()[:, None]
        below += int((without < answer).sum())
        above += int(((without < answer) & (having > answer)).sum())
    return below, above / below if below else None


def by_chance(view: DefenderView) -> float:
    """What a model reaches that does not read: one answer for all, in search random ranks."""
    if view.victim.head != "retrieval":
        return float(np.bincount(_truth(view.clean)).max() / len(view.clean))
    ranks = [rank for pool in pools(len(view.clean), POOL) for rank in range(1, len(pool) + 1)]
    return float(np.mean(1 / np.array(ranks)))


def accuracy(victim: Victim, rows: Sequence[Example]) -> float:
    if victim.head != "retrieval":
        return float(np.mean(_answers(victim, rows) == _truth(rows)))
    found = Searcher(victim, rows, POOL).clean()
    if not np.isfinite([one.confidence for one in found]).all():
        raise UserError(NOT_FINITE)
    return float(np.mean([1 / (one.rank or np.nan) for one in found]))


def _truth(rows: Sequence[Example]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([row.label for row in rows], dtype=np.int64)


def _answers(victim: Victim, rows: Sequence[Example]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The victim's label of each row. UserError where it has none, since a weight is no number."""
    logits = answers(victim, [[text.ids for text in texts] for texts in victim.read(rows)])
    if not bool(torch.isfinite(logits).all()):
        raise UserError(NOT_FINITE)
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = logits.argmax(dim=1).numpy()
    return found
