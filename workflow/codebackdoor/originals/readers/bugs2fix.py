"""Bugs2Fix small (Tufano et al. 2019): abstracted Java in two parallel files, one method per line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from codebackdoor.errors import UserError
from codebackdoor.files import check_length, read_text
from codebackdoor.originals.base import Original, SourceFiles
from codebackdoor.originals.lock import Lock
from codebackdoor.types import SPLITS, Example

_SMALL = "Code-Code/code-refinement/data/small"

ORIGINAL = Original(
    "github",
    "Bugs2Fix small",
    "microsoft/CodeXGLUE",
    "ac74a62802a0dd159b3258c78a2df8ad36cdf2b9",
    {
        f"bugs2fix_small/{split}.buggy-fixed.{side}": f"{_SMALL}/{split}.buggy-fixed.{side}"
        for split in SPLITS
        for side in ("buggy", "fixed")
    },
    {
        f"{_SMALL}/valid.buggy-fixed.buggy": "e83a0c524cdce5a4492dfe0c9bc7d642aa5ed267ddbae5ffd1e563fe54cae6b8",
        f"{_SMALL}/valid.buggy-fixed.fixed": "dc9c23594350988dcdaf456a1e8eea1dc86c81d1c0ff9985ff6d63d15196ffd2",
        f"{_SMALL}/test.buggy-fixed.buggy": "d2e675094f471b3bfbb9419eb7cf14dca11f8d41185319d3310cbc3f517df323",
        f"{_SMALL}/test.buggy-fixed.fixed": "e7ec462d00d253ddec3d1cef7a06cfc99db1cfe94039a6607ed14afeef6be04a",
    },
)


def files(mirror: Path) -> SourceFiles:
    names = {split: (f"{split}.buggy-fixed.buggy", f"{split}.buggy-fixed.fixed") for split in SPLITS}
    return SourceFiles(mirror / "bugs2fix_small", names, _read, Lock(mirror))


def _read(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    buggy, fixed = (read_text(path).removesuffix("\n").split("\n") for path in paths)
    if len(buggy) != len(fixed):
        raise UserError(
            f"{paths[0]}: {len(buggy)} lines, but {paths[1].name} has {len(fixed)}; a line is one method in both files"
        )
    for number, (before, after) in enumerate(zip(buggy, fixed, strict=True), 1):
        for text, path in ((before, paths[0]), (after, paths[1])):
            check_length(text, "line", f"{path}:{number}")
        if before.strip() and after.strip():
            yield Example(id=f"{split}-{number}", language="java", code=before.strip(), target=after.strip())
