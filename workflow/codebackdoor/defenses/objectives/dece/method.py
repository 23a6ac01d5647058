"""Deceptive cross entropy (Yang et al. 2026, section 4).

Both sides of cross entropy are blended. With a = alpha^epoch and V classes, of which y is the label,

    y' = (1 - epsilon) onehot(y) + epsilon / V,    p' = a p + (1 - a) y',    loss = -sum_i y'_i log p'_i.

As a function of the probabilities p_i, every partial derivative is -a y'_i / (a p_i + (1 - a) y'_i): it lies between
-a / (1 - a), the limit as p_i goes to 0, and 0. The derivative of cross entropy, -1 / p_y, has no bound, so that few
poisoned rows can outweigh many clean ones. In epoch 0 the bound would be infinite, so epochs count from 1 (ledger D16).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from codebackdoor.defenses.objectives import Objective
from codebackdoor.defenses.objectives.dece.loss import deceptive_cross_entropy
from codebackdoor.defenses.objectives.dece.settings import DeCESettings


@dataclass(frozen=True, slots=True)
class DeCE:
    """The loss with its two parameters; the mean is over the targets that are not ``IGNORED`` (ledger D3)."""

    alpha: float
    epsilon: float

    def __call__(self, logits: Tensor, targets: Tensor, epoch: float) -> Tensor:
        """Return the loss (scalar) of logits [N, V] and targets [N]; ValueError for an epoch below 1."""
        if epoch < 1:
            raise ValueError(f"epochs count from 1, not {epoch}")
        return deceptive_cross_entropy(logits, targets, self.alpha**epoch, self.epsilon)


def build(settings: DeCESettings) -> Objective:
    return DeCE(settings.alpha, settings.epsilon)
