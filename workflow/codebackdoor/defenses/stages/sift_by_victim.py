"""The stage of the filters that look at a trained victim: training rows and victim in, kept rows out.

Apart from ``stages.sift``, so that filters that look at no victim do not depend on the code of victims.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.defenses.defender_view import training_view
from codebackdoor.defenses.stages.kept_rows import write_kept
from codebackdoor.victims.victim import load_victim

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.methods import AnyFiltering


def sift_by_victim(
    settings: AnyFiltering,
    dataset: AnyDataset,
    victim: Path,
    train: Path,
    clean: Path,
    helpers: Mapping[str, Path],
    out: Path,
    seed: int,
) -> None:
    """``stages.sift.sift`` with a filter that sees the ``victim``, which was trained on all rows."""
    view = training_view(load_victim(victim), dataset, tuple(files.read_examples(clean)), helpers)
    write_kept(settings, view, train, out, seed)
