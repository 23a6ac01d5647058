"""Gradients of a loss by the one-hot coordinates of a trigger, restricted to its vocabulary.

Equal to autograd through the whole one-hot matrix: the coordinate of slot i and piece v is the inner product of the
gradient at the slot's embedding, summed over samples and occurrences, with the embedding of v.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codebackdoor.victims import forward
from codebackdoor.victims.batching import pad
from codebackdoor.victims.victim import Victim


class Pieces(Protocol):
    """The tokens of a search: their ids inside a word and after a space, and which of them may stand first."""

    @property
    def plain(self) -> NDArray[np.int64]: ...

    @property
    def spaced(self) -> NDArray[np.int64]: ...

    @property
    def first(self) -> NDArray[np.int64]: ...

    def survive(self, triggers: Sequence[Sequence[int]], contexts: Sequence[bool]) -> list[bool]: ...


def embed(rows: Sequence[Sequence[int]], victim: Victim) -> tuple[Tensor, Tensor]:
    """Token embeddings of some texts as a leaf of the graph, and their mask."""
    ids, mask = pad(rows, victim.pad_id, victim.device)
    return forward.embed(victim, ids).detach().requires_grad_(), mask


class SlotGradients:
    """Gradients at the slots of a trigger, summed over samples and occurrences."""

    def __init__(self, victim: Victim, vocabulary: Pieces, length: int) -> None:
        self._weight: Tensor = victim.model.get_input_embeddings().weight
        self._vocabulary = vocabulary
        self._inside = torch.zeros(length, self._weight.shape[1], device=self._weight.device)
        self._at_start = torch.zeros(self._weight.shape[1], device=self._weight.device)

    def add(self, gradient: Tensor, slots: Sequence[Sequence[tuple[int, int, bool]]]) -> None:
        """Add the gradient [B, T, H] at the slots (column, slot, spaced) of each row."""
        for row, row_slots in enumerate(slots):
            for column, slot, spaced in row_slots:
                if spaced and slot == 0:
                    self._at_start += gradient[row, column]
                else:
                    self._inside[slot] += gradient[row, column]

    @torch.no_grad()
    def by_piece(self) -> Tensor:
        """Return [n, V], on the CPU."""
        table = self._inside @ self._weight[torch.from_numpy(self._vocabulary.plain)].T
        # `substitutes` never puts a piece without an id into that slot, so it does not matter which row its -1 selects
        table[0] += self._at_start @ self._weight[torch.from_numpy(self._vocabulary.spaced)].T
        return table.cpu()
