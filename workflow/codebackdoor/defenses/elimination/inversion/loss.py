"""What a trigger search minimizes: a loss for each row of the victim's outputs.

To add a loss towards a label, write a class here and add its name to ``LABEL_LOSSES`` and
``inversion.settings.LossName``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codebackdoor.defenses.elimination.inversion.settings import LossName


class InversionLoss(ABC):
    """A loss that is low if the victim's outputs are those that the attacker wants."""

    #: No row has a lower loss. A search uses it to drop candidates that can no longer win; with -inf it drops none.
    lower_bound: float = -math.inf

    @abstractmethod
    def of(self, outputs: Tensor) -> Tensor:
        """The loss of each row of logits [N, C] (N losses), or of each similarity."""

    def total(self, outputs: Tensor) -> Tensor:
        """The sum of these losses."""
        return self.of(outputs).sum()


@dataclass(frozen=True, slots=True)
class CrossEntropyLoss(InversionLoss):
    """Cross entropy of logits [N, C] towards a label, in nats (EliBadCode, Eq. 3)."""

    label: int
    lower_bound = 0.0

    def of(self, outputs: Tensor) -> Tensor:
        return self._reduced(outputs, "none")

    def total(self, outputs: Tensor) -> Tensor:
        # torch's order of summation, as in finished runs: the last digit depends on it
        return self._reduced(outputs, "sum")

    def _reduced(self, outputs: Tensor, reduction: str) -> Tensor:
        targets = torch.full((len(outputs),), self.label, device=outputs.device)
        return nn.functional.cross_entropy(outputs.float(), targets, reduction=reduction)


@dataclass(frozen=True, slots=True)
class ProbabilityLoss(InversionLoss):
    """1 - the probability of a label: at most 1, so that no sample outweighs the others."""

    label: int
    lower_bound = 0.0

    def of(self, outputs: Tensor) -> Tensor:
        # the sum of the other labels, since 1 - p is nothing but rounding errors for p near 1
        probabilities = torch.softmax(outputs.float(), dim=1)
        return probabilities[:, [label for label in range(outputs.shape[1]) if label != self.label]].sum(dim=1)


@dataclass(frozen=True, slots=True)
class CosineGap(InversionLoss):
    """Squared difference of cosine similarities to 1: how far a function is from answering a query (Algorithm 2)."""

    lower_bound = 0.0

    def of(self, outputs: Tensor) -> Tensor:
        return (1 - outputs) ** 2


LABEL_LOSSES: Mapping[LossName, Callable[[int], InversionLoss]] = {
    "cross_entropy": CrossEntropyLoss,
    "probability": ProbabilityLoss,
}
