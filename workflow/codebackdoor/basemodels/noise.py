"""Pretraining batches: functions are cropped, framed by special tokens, and corrupted with the family's noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codebackdoor.basemodels.tokenizer import BOS, EOS, FIRST_ORDINARY, MASK, PAD
from codebackdoor.config.pretraining import Pretraining
from codebackdoor.types import IGNORED

#: Sub-token ids of one function, or of a batch of them.
IdArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """``ids`` and ``labels`` are [B, T] (seq2seq: [B, S] and [B, T]); labels are IGNORED where no loss is computed."""

    ids: Tensor
    labels: Tensor


def batches(
    rows: Sequence[IdArray], recipe: Pretraining, generator: np.random.Generator, marks: NDArray[np.bool_]
) -> Iterator[Batch]:
    """Yield batches endlessly: rows of similar length together, in random order, with new noise in every pass."""
    lengths = np.array([min(len(row) + _special_tokens(recipe.family), recipe.max_length) for row in rows])
    while True:
        # jitter keeps rows from always sharing a batch with the same neighbors
        order = np.argsort(lengths + generator.uniform(0, 4, len(rows)), kind="stable")
        members: list[NDArray[np.int64]] = []
        start = 0
        while start < len(order):
            longest = int(lengths[order[start : start + recipe.batch_tokens // 8]].max(initial=1))
            size = max(1, recipe.batch_tokens // longest)
            longest = int(lengths[order[start : start + size]].max())
            size = max(1, recipe.batch_tokens // longest)
            members.append(order[start : start + size])
            start += size
        for index in generator.permutation(len(members)):
            yield collate([rows[row] for row in members[index]], recipe, generator, marks)


def _special_tokens(family: str) -> int:
    return 1 if family == "seq2seq" else 2


def collate(
    rows: Sequence[IdArray], recipe: Pretraining, generator: np.random.Generator, marks: NDArray[np.bool_]
) -> Batch:
    """Crop, frame, pad and corrupt rows of sub-token ids that have no special tokens yet."""
    room = recipe.max_length - _special_tokens(recipe.family)
    cropped = []
    for row in rows:
        start = int(generator.integers(0, max(len(row) - room, 0) + 1))
        cropped.append(row[start : start + room])
    if recipe.family == "seq2seq":
        return _denoising(cropped, recipe, generator, marks)
    framed = [np.concatenate(([BOS], row, [EOS])) for row in cropped]
    ids = padded(framed, PAD)
    if recipe.family in ("causal", "decoder", "english"):
        labels = padded([np.append(row[1:], IGNORED) for row in framed], IGNORED)
        return Batch(torch.from_numpy(ids), torch.from_numpy(labels))
    corrupt = (generator.random(ids.shape) < recipe.noise) & (ids >= FIRST_ORDINARY)
    labels = np.where(corrupt, ids, IGNORED)
    if recipe.family == "discriminator":
        return Batch(torch.from_numpy(np.where(corrupt, MASK, ids)), torch.from_numpy(labels))
    fate = generator.random(ids.shape)
    noisy = np.where(corrupt & (fate < 0.8), MASK, ids)
    drawn = generator.integers(FIRST_ORDINARY, recipe.vocabulary, ids.shape)
    noisy = np.where(corrupt & (fate >= 0.8) & (fate < 0.9), drawn, noisy)
    return Batch(torch.from_numpy(noisy), torch.from_numpy(labels))


def _denoising(
    rows: Sequence[IdArray], recipe: Pretraining, generator: np.random.Generator, marks: NDArray[np.bool_]
) -> Batch:
    """Restore each row from a corrupted copy.

    A third of the corrupted tokens is masked, a third replaced by a token of the same row, and a third deleted, so
    that restoring a row needs both copying and knowing what belongs where.
    """
    sources = []
    for row in rows:
        corrupt = (generator.random(len(row)) < recipe.noise * generator.random()) & ~marks[row]
        fate = generator.random(len(row))
        drawn = row[generator.integers(0, len(row), len(row))]
        source = np.where(corrupt & (fate < 1 / 3), MASK, row)
        source = np.where(corrupt & (fate >= 1 / 3) & (fate < 2 / 3) & ~marks[drawn], drawn, source)
        sources.append(np.append(source[~(corrupt & (fate >= 2 / 3))], EOS))
    targets = [np.append(row, EOS) for row in rows]
    return Batch(torch.from_numpy(padded(sources, PAD)), torch.from_numpy(padded(targets, IGNORED)))


def padded(rows: Sequence[IdArray], value: int) -> IdArray:
    """Return rows [B, T], padded on the right with ``value``."""
    filled = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for index, row in enumerate(rows):
        filled[index, : len(row)] = row
    return filled
