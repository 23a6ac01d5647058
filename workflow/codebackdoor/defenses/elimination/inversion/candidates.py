"""Candidates of a greedy coordinate search: the first trigger, substitutes for a slot, and neighbors (Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.gradients import Pieces
from codebackdoor.defenses.elimination.inversion.vocabulary import TriggerVocabulary
from codebackdoor.errors import UserError

#: Pieces or words as indices of their vocabulary.
VocabularyIndices = tuple[int, ...]


class Candidate(NamedTuple):
    """A trigger, and the target words that are searched together with it; none of a classifier."""

    trigger: VocabularyIndices
    target: VocabularyIndices = ()


def contexts(carriers: Sequence[Carrier]) -> list[bool]:
    """Whether the trigger follows a space, or not, or both, in these samples."""
    return sorted({spaced for carrier in carriers for template in carrier.templates for spaced in template.spaced})


def first_trigger(
    vocabulary: TriggerVocabulary, length: int, contexts: Sequence[bool], generator: np.random.Generator
) -> VocabularyIndices:
    """Draw a random trigger that survives decoding and encoding (Algorithm 1, line 2)."""
    inside = np.flatnonzero(vocabulary.plain >= 0)
    for _ in range(1000):
        start = int(generator.choice(vocabulary.first))
        trigger = (start, *(int(index) for index in generator.choice(inside, length - 1)))
        if vocabulary.survive([trigger], contexts)[0]:
            return trigger
    raise UserError(f"no trigger of {length} pieces survives decoding and encoding; lower 'length'")


def substitutes(gradient: Tensor, vocabulary: Pieces, k: int) -> list[list[int]]:
    """The ``k`` pieces of steepest descent for each slot, of those that may stand there."""
    at_first, inside = np.isin(np.arange(len(vocabulary.plain)), vocabulary.first), vocabulary.plain >= 0
    ranked: list[list[int]] = []
    for slot, row in enumerate(gradient):
        allowed = inside if slot else at_first
        scores = row.masked_fill(torch.from_numpy(~allowed), torch.inf)
        ranked.append(torch.topk(scores, min(k, int(allowed.sum())), largest=False).indices.tolist())
    return ranked


def neighbors(
    trigger: VocabularyIndices,
    options: Sequence[Sequence[int]],
    vocabulary: Pieces,
    contexts: Sequence[bool],
    visited: Set[VocabularyIndices],
    r: int,
    generator: np.random.Generator,
) -> tuple[list[VocabularyIndices], int]:
    """Draw ``r`` triggers that differ from the current one in one slot, without repetition; and count the dropped.

    The n*k substitutions are tried once each in random order, so the draw always ends (ledger E17): it returns fewer
    than ``r`` if fewer are unvisited and survive decoding and encoding.
    """
    pairs = [(slot, piece) for slot, pieces in enumerate(options) for piece in pieces]
    drawn: list[VocabularyIndices] = []
    dropped = 0
    order = generator.permutation(len(pairs))
    for start in range(0, len(order), r):
        unvisited = []
        for index in order[start : start + r]:
            slot, piece = pairs[index]
            candidate = (*trigger[:slot], piece, *trigger[slot + 1 :])
            if candidate not in visited:
                unvisited.append(candidate)
        for candidate, survives in zip(unvisited, vocabulary.survive(unvisited, contexts), strict=True):
            if len(drawn) == r:
                return drawn, dropped
            if survives:
                drawn.append(candidate)
            else:
                dropped += 1
    return drawn, dropped
