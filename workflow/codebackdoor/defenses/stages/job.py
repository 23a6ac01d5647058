"""What a job that defends a trained victim reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset


@dataclass(frozen=True, slots=True)
class DefenseJob:
    """One victim, the data that a defense of it may read, and where the results go; settings of the method are apart.

    ``clean`` has clean rows: the defender's samples for an elimination, validation rows for a purification.
    ``testsets`` are the inputs to purify, by name; an elimination has none.
    """

    dataset: AnyDataset
    victim: Path
    clean: Path
    out: Path
    seed: int
    helpers: Mapping[str, Path] = field(default_factory=dict)
    testsets: Mapping[str, Path] = field(default_factory=dict)
