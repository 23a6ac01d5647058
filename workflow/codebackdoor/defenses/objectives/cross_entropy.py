"""Cross entropy, the loss that every victim is trained with unless an experiment says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from codebackdoor.config import objectives
from codebackdoor.defenses.objectives import IGNORED, Objective


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Mean negative log-probability of the targets that are not ``IGNORED``; the epoch plays no part."""

    def __call__(self, logits: Tensor, targets: Tensor, epoch: int) -> Tensor:  # noqa: ARG002
        return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED)


def build(settings: objectives.CrossEntropy) -> Objective:  # noqa: ARG001
    return CrossEntropy()
