"""Batches of sequences of similar length, sized by tokens; a batch that does not fit into memory is halved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


def bucketed(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Group indices so that sequences of similar length share a batch and padding stays small.

    A batch has at most ``tokens_per_batch`` tokens, padding included, but at least one sequence. The longest come
    first, so that memory runs out at the start or not at all. Every index appears exactly once; ties keep their order.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    for index in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= tokens_per_batch:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def pad(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Return ids [B, T] padded on the right with ``pad_id``, and the mask [B, T] (1 for real tokens), both int64."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask.astype(np.int64)).to(device)


def halving(batch: Sequence[int], run: Callable[[Sequence[int]], None]) -> None:
    """Call ``run(batch)``; if memory runs out, call it on each half instead, down to single sequences."""
    try:
        run(batch)
        return
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # outside the handler, whose traceback would keep the tensors of the failed attempt alive
    middle = len(batch) // 2
    halving(batch[:middle], run)
    halving(batch[middle:], run)


def computed(lengths: Sequence[int], tokens_per_batch: int, compute: Callable[[Sequence[int]], Iterable[T]]) -> list[T]:
    """The results of ``compute`` for every sequence, in order; it gets the indices of one batch at a time."""
    results: dict[int, T] = {}

    def run(batch: Sequence[int]) -> None:
        results.update(zip(batch, compute(batch), strict=True))

    for batch in bucketed(lengths, tokens_per_batch):
        halving(batch, run)
    return [results[index] for index in range(len(lengths))]
