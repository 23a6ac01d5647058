"""What the stages of the purifications share: inputs purified blindly, and the file of purified inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from codebackdoor import files
from codebackdoor.defenses import blinding
from codebackdoor.defenses.purification import Purifier
from codebackdoor.types import Example, Purified


def _rewrites_alike(alone: Purified, together: Purified) -> bool:
    """Whether texts and spans are the same; evidence is not compared, since it may be rounded."""
    return (alone.example.texts, alone.touched) == (together.example.texts, together.touched)


REWRITES_ALIKE = blinding.IndependenceCheck(
    _rewrites_alike,
    most=64,
    complaint="are rewritten differently alone than together with others: what a purification makes of an input must "
    "depend on that input only",
)


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
