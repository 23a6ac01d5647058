"""Settings that all objectives share."""

from __future__ import annotations

from codebackdoor.config.base import Settings
from codebackdoor.config.recipes import UNCHANGED, CheckpointSettings, Recipe
from codebackdoor.costs.work import PlannedVictim, Work


class ObjectiveSettings(Settings):
    """Settings of a defense that trains differently: with another loss, or also with another recipe."""

    @property
    def recipe(self) -> Recipe:
        """What differs in training besides the loss; by default nothing."""
        return UNCHANGED

    @property
    def stops_like(self) -> str | None:
        """The objective whose final validation loss ends the training; None: all epochs are trained."""
        return None

    @property
    def keeps_epochs(self) -> bool:
        """Whether the victim's folder keeps the weights after every epoch."""
        return False

    @property
    def taken_checkpoint(self) -> CheckpointSettings | None:
        """How a checkpoint of the undefended training is selected as the victim; None: the victim is trained."""
        return None

    def work(self, victim: PlannedVictim) -> Work | None:  # noqa: ARG002
        """The work that the loss adds to a training: next to nothing compared to the model."""
        return Work()
