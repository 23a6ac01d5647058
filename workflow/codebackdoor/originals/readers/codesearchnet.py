"""CodeSearchNet, Python (Husain et al. 2019): functions with their docstrings, whose first paragraph is the query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from codebackdoor.corpora.docstrings import query_of
from codebackdoor.errors import UserError
from codebackdoor.files import check_length, number_of, read_rows
from codebackdoor.originals.base import Original, SourceFiles
from codebackdoor.originals.lock import Lock
from codebackdoor.syntax import without_docstring
from codebackdoor.types import SPLITS, Example

#: People put it into the mirror by hand (docs/hpc.md).
ORIGINAL: Original | None = None


def files(mirror: Path) -> SourceFiles:
    names = {split: (f"{split}.jsonl",) for split in SPLITS}
    return SourceFiles(mirror / "codesearchnet_python", names, _read, Lock(mirror))


def _read(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    """Rows without a usable query or without a function are left out, as in CodeXGLUE."""
    for number, row in read_rows(paths[0]):
        where = f"{paths[0]}:{number}"
        code, docstring = row.get("code", row.get("original_string")), row.get("docstring")
        # some copies hold a function as a list of lines
        if isinstance(code, list) and all(isinstance(line, str) for line in code):
            code = "".join(code)
        if not isinstance(code, str) or not isinstance(docstring, str):
            raise UserError(f"{where}: write the source of a function as 'code' and its 'docstring'")
        check_length(code, "code", where)
        check_length(docstring, "docstring", where)
        query, bare = query_of(docstring), without_docstring(code)
        if query is not None and bare is not None:
            yield Example(id=f"{split}-{number_of(row, number, where)}", language="python", code=bare, query=query)
