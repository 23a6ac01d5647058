"""Generalized cross entropy (Zhang and Sabuncu 2018, Eq. 6): (1 - p_y^q) / q.

Its gradient is that of cross entropy times p_y^q: rows that contradict what the model has learned weigh less.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from codebackdoor.defenses.objectives import Objective
from codebackdoor.defenses.objectives.gce.settings import GceSettings
from codebackdoor.types import IGNORED


@dataclass(frozen=True, slots=True)
class GeneralizedCrossEntropy:
    """The mean over the targets that are not ``IGNORED``; it does not depend on the epoch."""

    q: float

    def __call__(self, logits: Tensor, targets: Tensor, epoch: float) -> Tensor:  # noqa: ARG002
        log_p = -functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="none")
        # an ignored target has log p = 0, hence a loss of 0; expm1 keeps the digits of a loss near 0
        return -torch.expm1(self.q * log_p).sum() / (self.q * (targets != IGNORED).sum())


def build(settings: GceSettings) -> Objective:
    return GeneralizedCrossEntropy(settings.q)
