"""The stage of the purifications that use no victim: a test set in, rewritten inputs for all victims out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.defenses import blinding, purification
from codebackdoor.defenses.stages.purified_rows import blindly, write_purified
from codebackdoor.defenses.views import TextView
from codebackdoor.victims.rows import examples

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.methods import AnyPurification


def rewrite(
    settings: AnyPurification,
    dataset: AnyDataset,
    valid: Path,
    inputs: Path,
    helpers: Mapping[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Write ``out/purified.jsonl``: the test set ``inputs`` as all victims will read it.

    The method is calibrated on the clean rows of ``valid`` and sees no victim.
    """
    clean = tuple(files.read_examples(valid))
    rows = files.read_mixed(inputs)
    view = TextView.of(dataset, clean, helpers)
    with blinding.nameless():
        purifier = purification.load(settings.method)(view, settings, seed)
        purified = blindly(purifier, {"inputs": examples(rows)})
    write_purified(out / "purified.jsonl", purified["inputs"])
