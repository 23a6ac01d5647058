"""The mean cross entropy, for every objective that does not change this loss."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from codebackdoor.types import IGNORED


@dataclass(frozen=True, slots=True)
class MeanCrossEntropy:
    """Mean negative log-probability of the targets that are not ``IGNORED``; it does not depend on the epoch."""

    def __call__(self, logits: Tensor, targets: Tensor, epoch: float) -> Tensor:  # noqa: ARG002
        return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED)
