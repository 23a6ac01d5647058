"""Linguistic antipatterns (Fakhoury et al. 2018): Java methods and fields, label 1 for a problematic one.

The one file has no splits, so a data set must write `resplit: true`. Rows without source and label (the last ones),
texts with both labels, and repeated texts are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from codebackdoor.errors import UserError, quoted
from codebackdoor.originals.base import Original, SourceFiles
from codebackdoor.originals.tables import table_rows
from codebackdoor.types import Example

ORIGINAL: Original | None = None
_SOURCE, _LABEL = "Raw Source Code", "Problematic"


def files(mirror: Path) -> SourceFiles:
    names = {"train": "Oracle_With_Raw_SRC.csv", "valid": "valid.csv", "test": "test.csv"}
    return SourceFiles(mirror / "code_smell", {split: (name,) for split, name in names.items()}, _read)


def _read(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    rows = list(_rows(paths[0]))
    labels: dict[str, set[int]] = {}
    for _, text, label in rows:
        labels.setdefault(" ".join(text.split()), set()).add(label)
    for number, text, label in rows:
        if len(labels.pop(" ".join(text.split()), ())) == 1:
            yield Example(f"{split}-{number}", "java", text, label=label)


def _rows(path: Path) -> Iterator[tuple[int, str, int]]:
    """Number, source and label of each row that has a label."""
    columns = (_SOURCE, _LABEL)
    for number, (where, row) in enumerate(table_rows(path, columns, may_be_blank=columns), 1):
        if row[_LABEL] not in ("0", "1", ""):
            raise UserError(f"{where}: {_LABEL} must be 0, 1 or empty, not {quoted(row[_LABEL])}")
        if row[_LABEL]:
            yield number, row[_SOURCE], int(row[_LABEL])
