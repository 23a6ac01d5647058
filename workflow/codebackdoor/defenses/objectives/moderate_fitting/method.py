"""Moderate-fitting (Zhu et al. 2022): cross entropy, by a recipe that leaves no room for the features of a trigger.

A model first learns the features of the task, and only then those of the trigger. The defense ends training between the
two stages: by a lower learning rate, by fewer passes, or by fewer weights that can change (``settings.recipe``).
"""

from __future__ import annotations

from codebackdoor.defenses.objectives import Objective
from codebackdoor.defenses.objectives.mean import MeanCrossEntropy
from codebackdoor.defenses.objectives.moderate_fitting.settings import ModerateFittingSettings


class ModerateFitting(MeanCrossEntropy):
    """The undefended loss: the defense is the recipe."""


def build(settings: ModerateFittingSettings) -> Objective:  # noqa: ARG001
    return ModerateFitting()
