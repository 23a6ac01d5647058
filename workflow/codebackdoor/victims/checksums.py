"""Checksums of a model folder in the format of ``sha256sum``, so that files that changed later are refused.

Snakemake compares modification times and does not read large files. Without checksums, a checkpoint that was truncated
by another program, a full disk or an interrupted copy would be used.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import CHECKSUMS, read_text, sha256

#: The formats that ``sha256sum --check`` accepts, including uppercase digits, binary mode, and BSD tags.
_LINE = re.compile(r"(?P<sum>[0-9a-fA-F]{64}) [ *](?P<name>.+)|SHA256 \((?P<tagged>.+)\) = (?P<its>[0-9a-fA-F]{64})")


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` for every other file of the folder."""
    lines = [f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()) if path.name != CHECKSUMS]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def verify_sums(folder: Path) -> None:
    """Compare the folder's files with its ``SHA256SUMS``, if it has one (models from elsewhere may not).

    Raises UserError for the first file that is missing, differs, or is read but not listed.
    """
    sums = folder / CHECKSUMS
    if not sums.exists():
        return
    root, listed = Path(os.path.abspath(folder)), set()  # noqa: PTH100
    for number, line in enumerate(read_text(sums).split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UserError(f"{sums}:{number}: not a line of sha256sum; {_again(folder)}")
        # ./FILE and FOLDER/../FILE are FILE
        path = Path(os.path.normpath(root / (match["name"] or match["tagged"])))
        if not path.is_relative_to(root):
            raise UserError(f"{sums}:{number}: {quoted(str(path))} is outside of {folder}; {_again(folder)}")
        name = path.relative_to(root)
        if str(name) == CHECKSUMS:
            # the shell creates the file before sha256sum reads the folder; its own sum is meaningless
            continue
        listed.add(str(name))
        if not path.is_file():
            raise UserError(f"{folder / name}: this file is missing, {CHECKSUMS} lists it; {_again(folder)}")
        if sha256(path) != (match["sum"] or match["its"]).lower():
            raise UserError(
                f"{folder / name}: truncated or changed since it was written ({path.stat().st_size} bytes, its "
                f"checksum is not that of {CHECKSUMS}); {_again(folder)}"
            )
    for path in (folder / "config.json", *sorted(folder.glob("*.safetensors"))):
        if path.name not in listed:
            raise UserError(f"{sums}: does not list {path.name}; {_again(folder)}")


def _again(folder: Path) -> str:
    return f"if a run wrote {folder}, delete it and run again; otherwise restore the original"
