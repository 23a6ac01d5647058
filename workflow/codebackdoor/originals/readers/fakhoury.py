"""Linguistic antipatterns (Fakhoury et al. 2018): Java methods and fields, label 1 for a problematic one.

The one file has no splits, so that a data set splits it by itself (`resplit: true`). Its last rows have neither source
nor label and are left out, as are texts with both labels and repetitions of a text.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import check_length, read_text
from codebackdoor.originals.base import Original, SourceFiles
from codebackdoor.types import Example

ORIGINAL: Original | None = None
_COLUMNS = ["Raw Source Code", "Instance", "Problematic", "TYPE", "PATH", "Line"]


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
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(read_text(path).splitlines(keepends=True))
    if next(reader, None) != _COLUMNS:
        raise UserError(f"{path}:1: expected the columns {', '.join(_COLUMNS)}")
    for number, row in enumerate(reader, 1):
        where = f"{path}:{reader.line_num}"
        if len(row) != len(_COLUMNS) or row[2] not in ("0", "1", ""):
            raise UserError(f"{where}: expected six columns, 'Problematic' 0, 1 or empty, not {quoted(row)}")
        check_length(row[0], _COLUMNS[0], where)
        if row[2]:
            yield number, row[0], int(row[2])
