"""Deceptive cross entropy (Yang et al. 2026, section 4).

Both sides of cross entropy are blended. With a = alpha^epoch and V classes, of which y is the label,

    y' = (1 - epsilon) onehot(y) + epsilon / V,    p' = a p + (1 - a) y',    loss = -sum_i y'_i log p'_i.

As a function of the probabilities p_i, every partial derivative is -a y'_i / (a p_i + (1 - a) y'_i): it lies between
-a / (1 - a), the limit as p_i goes to 0, and 0. The derivative of cross entropy, -1 / p_y, has no bound, so that few
poisoned rows can outweigh many clean ones. In epoch 0 the bound would be infinite, so epochs count from 1 (ledger D16).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from codebackdoor.defenses.objectives import IGNORED, Objective
from codebackdoor.defenses.objectives.dece.settings import DeCESettings


class _SumLog(torch.autograd.Function):
    """Sum over the classes of log(weight p + shift), [N, V] -> [N]; plain autograd would keep two more [N, V]."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, weight: float, shift: float) -> Tensor:
        ctx.save_for_backward(p)
        ctx.weight, ctx.shift = weight, shift
        return torch.add(p.new_tensor(shift), p, alpha=weight).log_().sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (p,) = ctx.saved_tensors
        inverse = torch.add(p.new_tensor(ctx.shift), p, alpha=ctx.weight).reciprocal_()
        return inverse.mul_(ctx.weight * gradient[:, None]), None, None


@dataclass(frozen=True, slots=True)
class DeCE:
    """The loss with its two parameters; the mean is over the targets that are not ``IGNORED`` (ledger D3)."""

    alpha: float
    epsilon: float

    def __call__(self, logits: Tensor, targets: Tensor, epoch: float) -> Tensor:
        """Return the loss (scalar) of logits [N, V] and targets [N]; ValueError for an epoch below 1."""
        if epoch < 1:
            raise ValueError(f"epochs count from 1, not {epoch}")
        weight = self.alpha**epoch
        if weight == 1:
            return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, label_smoothing=self.epsilon)
        scored = targets != IGNORED
        p = logits.float().softmax(-1)
        losses = self.losses(p, targets.clamp(min=0), weight)
        return (losses * scored).sum() / scored.sum()

    def losses(self, p: Tensor, labels: Tensor, weight: float) -> Tensor:
        """Return the loss [N] for each row of probabilities [N, V], its label [N], and weight = alpha^epoch < 1.

        The label's term needs only p_y, and y'_i is the same for all other classes: no dense [N, V] of targets. No
        logarithm is taken near 0, since (1 - weight) y' is added to every probability.
        """
        spread = self.epsilon / p.shape[1]
        p_label = weight * p.gather(1, labels[:, None])[:, 0]
        on_label = 1 - self.epsilon + spread
        log_likelihood = on_label * (p_label + (1 - weight) * on_label).log()
        shift = (1 - weight) * spread
        if shift > torch.finfo(p.dtype).tiny:
            everywhere = _SumLog.apply(p, weight, shift)  # type: ignore[no-untyped-call]
            log_likelihood = log_likelihood + spread * (everywhere - (p_label + shift).log())
        return -log_likelihood


def build(settings: DeCESettings) -> Objective:
    return DeCE(settings.alpha, settings.epsilon)
