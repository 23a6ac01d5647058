"""BigCloneBench (Svajlenko et al. 2014; CodeXGLUE's files): Java functions in one file, and lists of pairs of them.

Label 1 is a clone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import number_of, read_rows, read_text
from codebackdoor.originals.base import Original, SourceFiles, function_source
from codebackdoor.originals.lock import Lock
from codebackdoor.types import SPLITS, Example

_DATASET = "Code-Code/Clone-detection-BigCloneBench/dataset"
#: Lists of pairs that stand in for the test split if only a sample of it exists.
_SAMPLES = ("test_sampled.txt", "test_pairs_codepurify.txt")

ORIGINAL = Original(
    "github",
    "BigCloneBench",
    "microsoft/CodeXGLUE",
    "ac74a62802a0dd159b3258c78a2df8ad36cdf2b9",
    {f"bigclonebench/{name}": f"{_DATASET}/{name}" for name in ("data.jsonl", *(f"{split}.txt" for split in SPLITS))},
)


def files(mirror: Path) -> SourceFiles:
    folder = mirror / "bigclonebench"
    lists: dict[str, tuple[str, ...]] = {split: (f"{split}.txt",) for split in SPLITS}
    if not (folder / "test.txt").is_file():
        lists["test"] = tuple(name for name in _SAMPLES if (folder / name).is_file()) or lists["test"]
    names = {split: ("data.jsonl", *lists[split]) for split in SPLITS}
    return SourceFiles(folder, names, _read, Lock(mirror))


def _read(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    functions: dict[str, str] = {}
    for number, row in read_rows(paths[0]):
        where = f"{paths[0]}:{number}"
        if row.get("idx") is None:
            raise UserError(f"{where}: write the number of the function as 'idx'")
        functions[number_of(row, number, where)] = function_source(row, where)
    pairs_read = set()
    for path in paths[1:]:
        for number, line in enumerate(read_text(path).splitlines(), 1):
            parts = line.split()
            if len(parts) != 3 or parts[2] not in ("0", "1"):
                raise UserError(f"{path}:{number}: expected two numbers of functions and 0 or 1, not {quoted(line)}")
            first, second, label = parts
            for index in (first, second):
                if index not in functions:
                    raise UserError(f"{path}:{number}: no function has the number {quoted(index)} in {paths[0].name}")
            if (first, second) not in pairs_read:
                pairs_read.add((first, second))
                yield Example(
                    id=f"{split}-{first}-{second}",
                    language="java",
                    code=functions[first],
                    code_b=functions[second],
                    label=int(label),
                )
