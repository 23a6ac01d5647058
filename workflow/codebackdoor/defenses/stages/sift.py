"""The stage of the filters that look at no victim: training rows in, kept rows out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.defenses.stages.kept_rows import write_kept
from codebackdoor.defenses.views import TextView

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.methods import AnyFiltering


def sift(
    settings: AnyFiltering,
    dataset: AnyDataset,
    train: Path,
    clean: Path,
    helpers: Mapping[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Filter the rows of ``train`` (``write_kept``); the method is calibrated on ``clean``, the defender's samples."""
    view = TextView.of(dataset, tuple(files.read_examples(clean)), helpers)
    write_kept(settings, view, train, out, seed)
