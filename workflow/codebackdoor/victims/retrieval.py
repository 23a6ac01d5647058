"""Asking a dual encoder: every query ranks the functions of its pool (BadCode and EliBadCode, section 5.2).

The test rows, in the order of their file, are cut into pools of about equal size. Without an attack a query's own
function has a rank. With one, every query that holds the target word ranks, for each function of its pool, that
function with the trigger in place of the same one without, all others being clean.
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


def rank(scores: Tensor, own: int | Tensor, score: Tensor | None = None) -> Tensor:
    """Rank from 1 of entry ``own`` of ``scores`` [..., P], or of ``score`` [...] in its place; ties share a rank."""
    index = torch.as_tensor(own).expand(scores.shape[:-1])[..., None]
    found = scores.gather(-1, index) if score is None else score[..., None]
    others = torch.ones_like(scores, dtype=torch.bool).scatter(-1, index, value=False)
    return 1 + ((scores > found) & others).sum(-1) + ((scores == found) & others).sum(-1) / 2


class Searcher:
    """The rows of a test set as one victim ranks them."""

    def __init__(self, victim: Victim, rows: Sequence[Example], size: int) -> None:
        self._victim, self._rows, self._pools = victim, rows, pools(len(rows), size)
        read = victim.read(rows)
        self._queries, self._codes = (text_vectors(victim, [row[place].ids for row in read]) for place in (0, 1))

    def _similarities(self, pool: range) -> Tensor:
        """[P, P]: every query of a pool with every function of it."""
        own = slice(pool.start, pool.stop)
        return forward.similarities(self._victim, self._queries[own, None], self._codes[None, own])

    def loss(self, scale: float) -> float:
        """Mean cross entropy of finding the own function of a pool by ``scale`` times the similarity, in nats."""
        each = [
            functional.cross_entropy(scale * self._similarities(pool), torch.arange(len(pool)), reduction="none")
            for pool in self._pools
        ]
        return torch.cat(each).mean().item()

    def clean(self) -> list[Prediction]:
        """The rank of every query's own function; the confidence is their similarity."""
        found = []
        for pool in self._pools:
            similar = self._similarities(pool)
            ranks = rank(similar, torch.arange(len(pool)))
            for row, at, score in zip(pool, ranks.tolist(), similar.diagonal().tolist(), strict=True):
                found.append(Prediction(self._rows[row].id, round(score, 6), rank=at, pool=len(pool)))
        return found

    def triggered(self, rows: Sequence[Poisoned], word: str) -> list[Prediction]:
        """For every query with the word, (rank without, rank with) the trigger of each function that took it.

        ``rows`` are the functions with the trigger, by ``source_id``. The confidence is the mean similarity with it.
        """
        injected = [row for row in rows if row.status == "injected"]
        read = self._victim.read([row.example for row in injected])
        vectors = dict(
            zip(
                (row.source_id for row in injected),
                text_vectors(self._victim, [row[1].ids for row in read]),
                strict=True,
            )
        )
        return [found for pool in self._pools for found in self._attacked(pool, vectors, word)]

    def _attacked(self, pool: range, vectors: Mapping[str, Tensor], word: str) -> Iterator[Prediction]:
        places = [place for place, row in enumerate(pool) if self._rows[row].id in vectors]
        asked = [place for place, row in enumerate(pool) if holds(self._rows[row].query, word)]
        if not places or not asked:
            return
        similar = self._similarities(pool)
        own = torch.tensor(places)
        with_trigger = torch.stack([vectors[self._rows[pool[place]].id] for place in places])
        for place in asked:
            score = forward.similarities(self._victim, self._queries[pool[place]], with_trigger)
            scores = similar[place].expand(len(places), -1)
            before, after = rank(scores, own), rank(scores, own, score)
            pairs = tuple(zip(before.tolist(), after.tolist(), strict=True))
            yield Prediction(self._rows[pool[place]].id, round(score.mean().item(), 6), ranks=pairs, pool=len(pool))
