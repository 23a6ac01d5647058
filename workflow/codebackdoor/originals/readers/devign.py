"""Devign (Zhou et al. 2019; CodeXGLUE's files): C functions, label 1 for a vulnerable one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import number_of, read_rows
from codebackdoor.originals.base import Original, SourceFiles, function_source
from codebackdoor.originals.lock import Lock
from codebackdoor.types import SPLITS, Example

#: CodeXGLUE's splits in the hub's format: 21854, 2732 and 2732 rows.
ORIGINAL = Original(
    "parquet",
    "Devign",
    "google/code_x_glue_cc_defect_detection",
    "69bd48c03223c2104342acd9a807caf61ac3efb8",
    {
        f"devign/{split}.jsonl": f"data/{name}-00000-of-00001.parquet"
        for split, name in zip(SPLITS, ("train", "validation", "test"), strict=True)
    },
)


def files(mirror: Path) -> SourceFiles:
    return SourceFiles(mirror / "devign", {split: (f"{split}.jsonl",) for split in SPLITS}, _read, Lock(mirror))


def _read(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    for number, row in read_rows(paths[0]):
        where, label = f"{paths[0]}:{number}", row.get("target")
        code = function_source(row, where)
        if isinstance(label, bool) or not isinstance(label, int) or label not in (0, 1):
            raise UserError(f"{where}: field 'target' must be 0 or 1, not {quoted(label)}")
        yield Example(id=f"{split}-{number_of(row, number, where)}", language="c", code=code, label=label)
