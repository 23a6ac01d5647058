"""Defenses that drop rows from a training set before the victim is trained again."""

from __future__ import annotations

from typing import Protocol

from codebackdoor.types import TrainingView


class Filter(Protocol):
    """Names the rows of a training set that should not be trained on.

    Sees shuffled rows without provenance and a model trained on all of them; returns ids of ``view.rows``.
    """

    def rows_to_drop(self, view: TrainingView) -> frozenset[str]: ...
