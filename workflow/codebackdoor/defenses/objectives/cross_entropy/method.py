"""Cross entropy, the loss that every victim is trained with unless an experiment names another one."""

from __future__ import annotations

from codebackdoor.defenses.objectives import Objective
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.defenses.objectives.mean import MeanCrossEntropy


class CrossEntropy(MeanCrossEntropy):
    """The loss of the undefended training."""


def build(settings: CrossEntropySettings) -> Objective:  # noqa: ARG001
    return CrossEntropy()
