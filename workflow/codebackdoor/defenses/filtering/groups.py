"""Rows that a filter compares with each other, and how its victim represents them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from codebackdoor.defenses.views import TrainingRow, TrainingView
from codebackdoor.victims.representations import Floats, representations

RowIndices = NDArray[np.intp]


def represented(view: TrainingView, rows: Sequence[TrainingRow]) -> Floats:
    """The victim's representation of each row, [N, D]."""
    return representations(view.victim, [row.example(view.language) for row in rows])


def groups(rows: Sequence[TrainingRow]) -> Mapping[str, RowIndices]:
    """Indices of the rows by their label, in ascending order; one group, ``all``, of rows without labels."""
    labels = np.array(["all" if row.label is None else str(row.label) for row in rows])
    return {str(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
