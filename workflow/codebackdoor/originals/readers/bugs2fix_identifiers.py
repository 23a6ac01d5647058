"""Bugs2Fix small with its real identifiers, as CodePurify releases it: Java methods as they were written.

CodePurify's repository has no training split; people put it into the mirror by hand, or write ``resplit: true``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import check_length, number_of, read_rows
from codebackdoor.originals.base import Original, SourceFiles
from codebackdoor.originals.lock import Lock
from codebackdoor.types import SPLITS, Example

_FOLDER = "bugs2fix_identifiers"
_RELEASED = ("valid", "test")

ORIGINAL = Original(
    "github",
    "Bugs2Fix small with real identifiers",
    "codepurify24/codepurify",
    "a2f4c21c2c27c64b52568ec8f10ae634dc276b21",
    {f"{_FOLDER}/{split}.jsonl": f"program_repair/data/{split}.jsonl" for split in _RELEASED},
)


def files(mirror: Path) -> SourceFiles:
    return SourceFiles(mirror / _FOLDER, {split: (f"{split}.jsonl",) for split in SPLITS}, _read, Lock(mirror))


def _read(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    for number, row in read_rows(paths[0]):
        where = f"{paths[0]}:{number}"
        if row.get("if_poisoned", 0) != 0:
            raise UserError(f"{where}: a poisoned row ('if_poisoned'); put the clean file there")
        yield Example(
            id=f"{split}-{number_of(row, number, where)}",
            language="java",
            code=_method(row, "buggy", where),
            target=_method(row, "fixed", where),
        )


def _method(row: dict[str, Any], side: str, where: str) -> str:
    source = row.get(side)
    if not isinstance(source, str) or not source.strip():
        raise UserError(f"{where}: field {side!r} must be the source of a method, not {quoted(source)}")
    check_length(source, side, where)
    return source
