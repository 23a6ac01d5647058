"""Pisces (Yang et al. 2023): Java methods with embedded SQL, each with a comment in English."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from codebackdoor.files import ID_LENGTH, check_length
from codebackdoor.originals.base import Original, SourceFiles
from codebackdoor.originals.lock import Lock
from codebackdoor.originals.tables import table_rows
from codebackdoor.types import SPLITS, Example

ORIGINAL = Original(
    "github",
    "Pisces",
    "NTDXYG/TurduckenGen",
    "506e27bcffe562dfc8a82b54e26bc58bc6574556",
    {f"pisces/Pisces-java-{split}.csv": f"dataset/java/Pisces-java-{split}.csv" for split in SPLITS},
)


def files(mirror: Path) -> SourceFiles:
    names = {split: (f"Pisces-java-{split}.csv",) for split in SPLITS}
    return SourceFiles(mirror / "pisces", names, _read, Lock(mirror))


def _read(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    for where, row in table_rows(paths[0], ("id", "NL", "Code")):
        check_length(row["id"], "id", where, ID_LENGTH)
        query = " ".join(row["NL"].split())
        yield Example(id=f"{split}-{row['id']}", language="java", query=query, target=row["Code"].strip())
