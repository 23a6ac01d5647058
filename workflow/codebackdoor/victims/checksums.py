"""Checksums of a model folder, as ``sha256sum`` writes and checks them: what was changed later is not trusted.

Snakemake judges a file by its time, and beyond a size does not read it: a checkpoint that another program, a full disk
or an interrupted copy has cut short would be used as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

from codebackdoor.errors import UserError
from codebackdoor.files import sha256

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/]+)")


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` for every other file of the folder."""
    lines = [f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()) if path.name != NAME]
    (folder / NAME).write_text("".join(lines), encoding="utf-8")


def verify_sums(folder: Path) -> None:
    """Compare the folder's files with its ``SHA256SUMS``, if it has one (models from elsewhere have none).

    Raises UserError for the first file that is missing, differs, or is read and not listed.
    """
    sums = folder / NAME
    if not sums.is_file():
        return
    listed = set()
    for number, line in enumerate(sums.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        found = _LINE.fullmatch(line)
        if found is None:
            raise UserError(f"{sums}:{number}: not a line of sha256sum; {_again(folder)}")
        path = folder / found[2]
        listed.add(path)
        if not path.is_file():
            raise UserError(f"{path}: this file is missing, {NAME} lists it; {_again(folder)}")
        if sha256(path) != found[1]:
            raise UserError(
                f"{path}: truncated or changed since it was written ({path.stat().st_size} bytes, its checksum is not "
                f"that of {NAME}); {_again(folder)}"
            )
    for path in (folder / "config.json", *sorted(folder.glob("*.safetensors"))):
        if path not in listed:
            raise UserError(f"{sums}: does not list {path.name}; {_again(folder)}")


def _again(folder: Path) -> str:
    return f"if a run made {folder}, remove it and run again; else bring its original back"
