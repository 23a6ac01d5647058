"""The In-trust loss (Huang et al. 2021), with probabilities p and the one-hot label q:

    alpha CE + beta DCE,    DCE = -sum_i p_i log(delta p_i + (1 - delta) q_i).

The logarithm of distrust cross entropy (DCE) is that of a blend which always has a share of the model's own
distribution, so that a label that the model finds impossible costs a bounded amount.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from codebackdoor.defenses.objectives import Objective
from codebackdoor.defenses.objectives.in_trust.settings import InTrustSettings
from codebackdoor.types import IGNORED


@dataclass(frozen=True, slots=True)
class InTrust:
    """The mean over the targets that are not ``IGNORED``; it does not depend on the epoch."""

    alpha: float
    beta: float
    delta: float

    def __call__(self, logits: Tensor, targets: Tensor, epoch: float) -> Tensor:  # noqa: ARG002
        scored = targets != IGNORED
        log_p = logits.float().log_softmax(-1)
        log_p_label = log_p.gather(1, targets.clamp(min=0)[:, None])[:, 0]
        losses = self.beta * self._distrust(log_p, log_p_label) - self.alpha * log_p_label
        return (losses * scored).sum() / scored.sum()

    def _distrust(self, log_p: Tensor, log_p_label: Tensor) -> Tensor:
        """DCE [N] of log-probabilities [N, V] and those of the labels [N].

        Every class but the label has p log(delta p), so that no dense [N, V] of labels is needed.
        """
        p_label = log_p_label.exp()
        entropy = -(log_p.exp() * log_p).sum(-1)
        blended = (self.delta * p_label + (1 - self.delta)).log()
        return entropy - math.log(self.delta) * (1 - p_label) + p_label * (log_p_label - blended)


def build(settings: InTrustSettings) -> Objective:
    return InTrust(settings.alpha, settings.beta, settings.delta)
