"""Lyra (Liang et al. 2022): Python functions with embedded SQL, each with a comment in English and in Chinese."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from codebackdoor.files import ID_LENGTH, check_length
from codebackdoor.originals.base import Original, SourceFiles
from codebackdoor.originals.lock import Lock
from codebackdoor.originals.tables import table_rows
from codebackdoor.types import SPLITS, Example

Comment = Literal["comm_en", "comm_zh"]


def _original(split: str, folder: str, revision: str, sha256: str) -> Original:
    """One split; each was added to the repository in a different commit."""
    path = f"{folder}/{split}.lyra.csv"
    return Original(
        "github",
        f"Lyra, {split}",
        "LIANGQINGYUAN/Lyra",
        revision,
        {f"lyra/{split}.lyra.csv": path},
        {path: sha256},
    )


ORIGINAL = _original(
    "train",
    "Lyra_Pretrained/data",
    "4b31d10ec35fd7752c41ad8d9d910f05be87238e",
    "9d42cbe94233eab6343ff6acfc1893e2caedac31b891d151cc575bdec760b6af",
)
SHARED = (
    _original(
        "valid",
        "Lyra_Transformer/data",
        "9c3a0e170cd09f3e7174af844859e9e26f9a2ec1",
        "0fe977e6921e3152be80c8a03b30e226b1760684ce623519c7c122fc2b596636",
    ),
    _original(
        "test",
        "lyra_dataset",
        "3a2c340f9d6fe536b791cfc0c6f71459856e7efc",
        "d9c0811c8a38bc934e84908d63268f1ca318a0d543969da522587f99ca71bdde",
    ),
)


def files(mirror: Path) -> SourceFiles:
    return commented(mirror, "comm_en")


def commented(mirror: Path, comment: Comment) -> SourceFiles:
    """The files, read with the comments of one language."""
    names = {split: (f"{split}.lyra.csv",) for split in SPLITS}
    return SourceFiles(mirror / "lyra", names, partial(_read, comment=comment), Lock(mirror))


def _read(split: str, paths: Sequence[Path], comment: Comment) -> Iterator[Example]:
    for where, row in table_rows(paths[0], ("id", "code", comment)):
        check_length(row["id"], "id", where, ID_LENGTH)
        query = " ".join(row[comment].split())
        yield Example(id=f"{split}-{row['id']}", language="python", query=query, target=row["code"])
