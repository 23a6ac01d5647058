"""Cross entropy, the loss that every victim is trained with unless an experiment names another one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from codebackdoor.defenses.objectives import IGNORED, Objective
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Mean negative log-probability of the targets that are not ``IGNORED``; it does not depend on the epoch."""

    def __call__(self, logits: Tensor, targets: Tensor, epoch: float) -> Tensor:  # noqa: ARG002
        return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED)


def build(settings: CrossEntropySettings) -> Objective:  # noqa: ARG001
    return CrossEntropy()
