"""Predictions of a dual encoder, which ranks the functions of a pool for every query (BadCode, EliBadCode section 5.2).

The test rows are split, in file order, into pools of about equal size. Without an attack, the prediction for a query is
the rank of its function. With an attack, each function of the pool is ranked twice for every query that contains the
target word: with and without the trigger, among the other functions, which are clean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from codebackdoor.pools import pools
from codebackdoor.types import Example, Poisoned, Prediction, holds
from codebackdoor.victims import forward
from codebackdoor.victims.inference import text_vectors
from codebackdoor.victims.victim import Victim


def rank(scores: Tensor, entry: int | Tensor, score: Tensor | None = None) -> Tensor:
    """Rank (from 1) of an entry of ``scores`` [..., P], or of ``score`` [...] in its place; ties share a rank."""
    index = torch.as_tensor(entry).expand(scores.shape[:-1])[..., None]
    ranked = scores.gather(-1, index) if score is None else score[..., None]
    rivals = torch.ones_like(scores, dtype=torch.bool).scatter(-1, index, value=False)
    return 1 + ((scores > ranked) & rivals).sum(-1) + ((scores == ranked) & rivals).sum(-1) / 2


def reciprocal_ranks(predictions: Sequence[Prediction]) -> list[float]:
    """One over the rank of each query's function; ValueError if a prediction has no rank."""
    return [1 / _rank_of(prediction) for prediction in predictions]


def mrr(predictions: Sequence[Prediction]) -> float:
    """The mean reciprocal rank; ValueError if a prediction has no rank."""
    reciprocals = reciprocal_ranks(predictions)
    return sum(reciprocals) / len(reciprocals)


def normalized_ranks(predictions: Sequence[Prediction]) -> list[tuple[float, float]]:
    """The ranks (without, with the trigger) of all attacking functions as shares of their pools.

    ValueError if a prediction has no ranks or no pool.
    """
    pairs = []
    for prediction in predictions:
        if prediction.ranks is None or prediction.pool is None:
            raise ValueError(f"the prediction of row {prediction.id!r} has no ranks in a pool")
        pairs += [(before / prediction.pool, after / prediction.pool) for before, after in prediction.ranks]
    return pairs


def _rank_of(prediction: Prediction) -> float:
    if prediction.rank is None:
        raise ValueError(f"the prediction of row {prediction.id!r} has no rank")
    return prediction.rank


class Retriever:
    """Ranks the functions of a test set with one victim."""

    def __init__(self, victim: Victim, rows: Sequence[Example], size: int) -> None:
        self._victim, self._rows, self._pools = victim, rows, pools(len(rows), size)
        texts = victim.tokenize(rows)
        self._queries, self._codes = (text_vectors(victim, [row[field].ids for row in texts]) for field in (0, 1))

    def _similarities(self, pool: range) -> Tensor:
        """Similarities [P, P] of every query of a pool with every function of the pool."""
        rows = slice(pool.start, pool.stop)
        return forward.similarities(self._victim, self._queries[rows, None], self._codes[None, rows])

    def loss(self, scale: float) -> float:
        """Mean cross entropy, in nats, of retrieving each query's function; logits are ``scale`` times similarity."""
        losses = [
            functional.cross_entropy(scale * self._similarities(pool), torch.arange(len(pool)), reduction="none")
            for pool in self._pools
        ]
        return torch.cat(losses).mean().item()

    def clean(self) -> list[Prediction]:
        """The rank of every query's function; the confidence is their similarity."""
        predictions = []
        for pool in self._pools:
            similar = self._similarities(pool)
            ranks = rank(similar, torch.arange(len(pool)))
            for row, position, score in zip(pool, ranks.tolist(), similar.diagonal().tolist(), strict=True):
                predictions.append(Prediction(self._rows[row].id, round(score, 6), rank=position, pool=len(pool)))
        return predictions

    def triggered(self, rows: Sequence[Poisoned], word: str) -> list[Prediction]:
        """For every query with the word: (rank without, rank with) the trigger, for each function that accepted it.

        ``rows`` are the triggered functions, identified by ``source_id``. The confidence is their mean similarity.
        """
        injected = [row for row in rows if row.status == "injected"]
        texts = self._victim.tokenize([row.example for row in injected])
        vectors = dict(
            zip(
                (row.source_id for row in injected),
                text_vectors(self._victim, [row[1].ids for row in texts]),
                strict=True,
            )
        )
        return [prediction for pool in self._pools for prediction in self._attacked(pool, vectors, word)]

    def _attacked(self, pool: range, vectors: Mapping[str, Tensor], word: str) -> Iterator[Prediction]:
        functions = [index for index, row in enumerate(pool) if self._rows[row].id in vectors]
        queries = [index for index, row in enumerate(pool) if holds(self._rows[row].query, word)]
        if not functions or not queries:
            return
        similar = self._similarities(pool)
        entries = torch.tensor(functions)
        with_trigger = torch.stack([vectors[self._rows[pool[index]].id] for index in functions])
        for index in queries:
            score = forward.similarities(self._victim, self._queries[pool[index]], with_trigger)
            scores = similar[index].expand(len(functions), -1)
            before, after = rank(scores, entries), rank(scores, entries, score)
            pairs = tuple(zip(before.tolist(), after.tolist(), strict=True))
            yield Prediction(self._rows[pool[index]].id, round(score.mean().item(), 6), ranks=pairs, pool=len(pool))
