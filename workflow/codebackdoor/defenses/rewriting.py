"""Purified inputs as rows, and the stage of the purifications that do not use a victim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.defenses import blinding, purification
from codebackdoor.defenses.purification import Purifier
from codebackdoor.defenses.views import TextView
from codebackdoor.types import Example, Purified
from codebackdoor.victims.rows import examples

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.methods import AnyPurification


def _rewrites_alike(alone: Purified, together: Purified) -> bool:
    """Whether texts and spans are the same; evidence is not compared, since it may be rounded."""
    return (alone.example.texts, alone.touched) == (together.example.texts, together.touched)


REWRITES_ALIKE = blinding.IndependenceCheck(
    _rewrites_alike,
    most=64,
    complaint="are rewritten differently alone than together with others: what a purification makes of an input must "
    "depend on that input only",
)


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


def blindly(purifier: Purifier, testsets: Mapping[str, Sequence[Example]]) -> dict[str, list[Purified]]:
    """Purify each test set by ``blinding.applied_blindly``."""
    purified = blinding.applied_blindly(purifier, lambda copy, rows: copy.purify(rows), testsets, REWRITES_ALIKE)
    return {
        name: [
            replace(result, example=replace(result.example, id=row.id))
            for row, result in zip(testsets[name], results, strict=True)
        ]
        for name, results in purified.items()
    }


def write_purified(path: Path, rows: Iterable[Purified]) -> None:
    """Write one row per input: id, its texts, now rewritten, old touched spans (field, start, end), evidence."""
    files.write_rows(path, map(_row, rows))


def _row(row: Purified) -> dict[str, object]:
    touched = [[span.field, span.start, span.end] for span in row.touched]
    texts: dict[str, object] = dict(row.example.texts.items())
    return {"id": row.example.id, **texts, "touched": touched, "detail": row.detail}
