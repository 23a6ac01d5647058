"""The stage of the filters that look at no victim: training rows in, kept rows out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.defenses import blinding, filtering
from codebackdoor.defenses.stages.kept_rows import judge_blindly, write_kept
from codebackdoor.defenses.views import TextView
from codebackdoor.victims.rows import examples

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
    """Write ``out/train.jsonl``: the kept rows of ``train``, unchanged and in their order.

    ``judged.jsonl`` contains the verdict on every row with the method's evidence, ``filtering.json`` the number of
    dropped rows. The method is calibrated on ``clean``, the defender's samples. Raises UserError if no row of some
    label is kept.
    """
    rows = files.read_mixed(train)
    view = TextView.of(dataset, tuple(files.read_examples(clean)), helpers)
    with blinding.nameless():
        method = filtering.load(settings.method)(view, settings, seed)
        judged = judge_blindly(method, examples(rows))
    write_kept(rows, judged, {"method": settings.method, **method.facts}, train, out)
