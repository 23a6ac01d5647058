"""Settings that all objectives share."""

from __future__ import annotations

from codebackdoor.config.base import Settings
from codebackdoor.config.recipes import UNCHANGED, Recipe


class ObjectiveSettings(Settings):
    """Settings of a defense that trains differently: with another loss, or also with another recipe."""

    @property
    def recipe(self) -> Recipe:
        """What differs in training besides the loss; by default nothing."""
        return UNCHANGED
