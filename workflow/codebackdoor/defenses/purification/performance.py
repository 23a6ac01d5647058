"""A victim's performance on clean rows as they are rewritten; only changed rows are predicted again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.types import Example
from codebackdoor.victims import forward
from codebackdoor.victims.inference import forced, predict_logits, text_vectors
from codebackdoor.victims.retrieval import rank
from codebackdoor.victims.victim import Victim


class Accuracy:
    """The share of labeled rows that a classifier of texts or pairs predicts correctly, in points."""

    def __init__(self, victim: Victim, rows: Sequence[Example]) -> None:
        if not rows or any(row.label is None for row in rows):
            raise UserError("accuracy on clean validation rows needs rows with labels; supply them")
        self._victim, self._rows = victim, list(rows)
        self._predicted = self._predict(rows)

    def points(self, rows: Sequence[Example]) -> float:
        """Accuracy on another version of the rows, in the same order."""
        changed = [index for index, row in enumerate(rows) if row != self._rows[index]]
        for index, label in zip(changed, self._predict([rows[index] for index in changed]), strict=True):
            self._rows[index], self._predicted[index] = rows[index], label
        correct = sum(label == row.label for label, row in zip(self._predicted, rows, strict=True))
        return 100 * correct / len(rows)

    def _predict(self, rows: Sequence[Example]) -> list[int]:
        ids = [tuple(text.ids for text in row) for row in self._victim.tokenize(rows)]
        return [int(label) for label in predict_logits(self._victim, ids).argmax(-1)] if ids else []


class ReciprocalRank:
    """100 times the mean reciprocal rank of each query's function among those of all rows, for a dual encoder."""

    def __init__(self, victim: Victim, rows: Sequence[Example]) -> None:
        if not rows:
            raise UserError("the mean reciprocal rank on clean validation rows needs rows; supply them")
        self._victim, self._rows = victim, list(rows)
        tokenized = victim.tokenize(rows)
        self._queries, codes = (text_vectors(victim, [row[column].ids for row in tokenized]) for column in (0, 1))
        self._codes: list[Tensor] = list(codes)

    def points(self, rows: Sequence[Example]) -> float:
        """The value on another version of the rows' code, in the same order."""
        changed = [index for index, row in enumerate(rows) if row != self._rows[index]]
        tokenized = self._victim.tokenize([rows[index] for index in changed])
        vectors = text_vectors(self._victim, [code.ids for _, code in tokenized])
        for index, vector in zip(changed, vectors, strict=True):
            self._rows[index], self._codes[index] = rows[index], vector
        codes = torch.stack(self._codes)
        similar = torch.stack([forward.similarities(self._victim, query, codes) for query in self._queries])
        return float(100 * rank(similar, torch.arange(len(rows))).reciprocal().mean())


class ReferenceProbability:
    """100 times the mean probability of a reference output's sub-tokens (teacher forcing), of a generating victim."""

    def __init__(self, victim: Victim, rows: Sequence[Example]) -> None:
        if not rows or any(row.target is None for row in rows):
            raise UserError("what is lost on clean validation rows needs rows with targets; supply them")
        self._victim, self._rows = victim, list(rows)
        self._targets = victim.encode_targets([str(row.target) for row in rows])
        self._sums = self._forced(range(len(rows)))

    def points(self, rows: Sequence[Example]) -> float:
        """The value on another version of the rows, in the same order."""
        changed = [index for index, row in enumerate(rows) if row != self._rows[index]]
        for index in changed:
            self._rows[index] = rows[index]
        if changed:
            self._sums[changed] = self._forced(changed)
        return float(100 * self._sums[:, 0].double().sum() / self._sums[:, 2].double().sum())

    def _forced(self, indices: Sequence[int]) -> Tensor:
        tokenized = self._victim.tokenize([self._rows[index] for index in indices])
        return forced(self._victim, [text.ids for (text,) in tokenized], [self._targets[index] for index in indices])


def performance(victim: Victim, rows: Sequence[Example]) -> Accuracy | ReciprocalRank | ReferenceProbability:
    """The metric of the victim's task on clean rows. UserError if rows or their labels are missing."""
    head = HEADS[victim.head]
    if head.generates:
        return ReferenceProbability(victim, rows)
    return ReciprocalRank(victim, rows) if head.ranks else Accuracy(victim, rows)


def last_affordable(
    victim: Victim,
    clean: Sequence[Example],
    lost_points: float,
    candidates: Iterable[float],
    rewritten: Callable[[float], Sequence[Example]],
    otherwise: float,
) -> float:
    """The last candidate threshold before the first one that costs the victim more points on the clean rows.

    ``rewritten`` gives the rows as a candidate leaves them; ``otherwise``: the threshold if already the first candidate
    costs more.
    """
    measure = performance(victim, clean)
    undefended, chosen = measure.points(clean), otherwise
    for candidate in candidates:
        if round(undefended - measure.points(rewritten(candidate)), 6) > lost_points:
            break
        chosen = candidate
    return chosen
