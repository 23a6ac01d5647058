"""Moderate-fitting (Zhu et al. 2022): cross entropy, by a recipe that leaves no room for the features of a trigger.

A model first learns the features of the task, and only then those of the trigger. The defense ends training between the
two stages: by a lower learning rate, by fewer passes, or by fewer weights that can change (``settings.recipe``).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from codebackdoor.defenses.objectives import IGNORED, Objective
from codebackdoor.defenses.objectives.moderate_fitting.settings import ModerateFittingSettings


@dataclass(frozen=True, slots=True)
class ModerateFitting:
    """Mean negative log-probability of the targets that are not ``IGNORED``; it does not depend on the epoch."""

    def __call__(self, logits: Tensor, targets: Tensor, epoch: float) -> Tensor:  # noqa: ARG002
        return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED)


def build(settings: ModerateFittingSettings) -> Objective:  # noqa: ARG001
    return ModerateFitting()
