"""The stages ``fetch``, ``mine`` and ``corpus``: from the package index to one file of unique functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codebackdoor.corpora.archives import archive, download, read_verified
from codebackdoor.corpora.mining import MinedFunction, mine, unique
from codebackdoor.errors import UserError
from codebackdoor.files import read_rows, write_rows


def fetch(name: str, out: Path, mirror: Path | None = None) -> None:
    """Fetch the archive ``name`` (``package-version``) to the file ``out``, verified."""
    download(archive(name), out, mirror)


def mine_archive(name: str, path: Path, out: Path) -> None:
    """Write the functions of one archive as JSON Lines."""
    pinned = archive(name)
    write_rows(out, (function.row() for function in mine(pinned, read_verified(path, pinned))))


def read_functions(path: Path) -> list[MinedFunction]:
    """Read mined functions; a row with missing or unknown fields is a UserError."""
    functions = []
    for number, row in read_rows(path):
        try:
            functions.append(MinedFunction(**row))
        except TypeError as error:
            raise UserError(f"{path}:{number}: not a mined function ({error})") from None
    return functions


def corpus(mined: Sequence[Path], out: Path) -> None:
    """Merge the functions of several archives and keep one of each function and its clones."""
    functions = unique(function for path in mined for function in read_functions(path))
    if not functions:
        raise UserError("the archives hold no usable function")
    write_rows(out, (function.row() for function in functions))
