"""Readers of data that is already there: the papers' own files in a mirror folder, or a user's JSON Lines.

Devign (Zhou et al. 2019; CodeXGLUE's files) is C with label 1 for a vulnerable function. Bugs2Fix small (Tufano et al.
2019) is abstracted Java in two parallel files, one method a line. BigCloneBench (Svajlenko et al. 2014; CodeXGLUE's
files) is Java functions in one file, and lists of pairs of them with label 1 for a clone. CodeSearchNet (Husain et al.
2019) is Python functions with their docstrings. Nothing is downloaded here; what `make fetch` brought
is read only as it was fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codebackdoor.corpora.docstrings import query_of
from codebackdoor.corpora.lock import Lock
from codebackdoor.errors import UserError, shown
from codebackdoor.files import check_length, number_of, read_examples, read_rows, read_text
from codebackdoor.syntax import without_docstring
from codebackdoor.types import Example

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """Files of one data set by split, and how to read those of one split; texts come as raw source."""

    folder: Path
    files: Mapping[str, tuple[str, ...]]
    read: Callable[[str, Sequence[Path]], Iterator[Example]]
    lock: Lock | None = None

    def present(self, split: str) -> bool:
        return all((self.folder / name).is_file() for name in self.files[split])

    def paths(self, split: str) -> list[Path]:
        return [self.folder / name for name in self.files[split]]

    def splits(self, resplit: bool) -> list[str]:
        """Return the splits to read: all three, or with ``resplit`` those that are there.

        A UserError lists every missing file, and the folder to put it in, at once.
        """
        there = [split for split in SPLITS if self.present(split)]
        if len(there) == len(SPLITS) or (resplit and there):
            return there
        names = dict.fromkeys(name for split in SPLITS for name in self.files[split])
        missing = [name for name in names if not (self.folder / name).is_file()]
        hint = "" if resplit or not there else ", or write `resplit: true` to split what is there anew"
        raise UserError(
            f"{self.folder}: missing {', '.join(missing)}; put {'it' if missing[1:] == [] else 'them'} there{hint}"
        )

    def examples(self, split: str) -> list[Example]:
        """Read one split; a file that is malformed, empty or not as it was fetched is a UserError."""
        paths = self.paths(split)
        if self.lock is not None:
            self.lock.check(paths)
        rows = list(self.read(split, paths))
        if not rows:
            raise UserError(f"{paths[0]}: the data set is empty; it needs at least one row")
        return rows


def devign(mirror: Path) -> SourceFiles:
    return SourceFiles(mirror / "devign", {split: (f"{split}.jsonl",) for split in SPLITS}, _devign, Lock(mirror))


def _devign(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    for number, row in read_rows(paths[0]):
        where, label = f"{paths[0]}:{number}", row.get("target")
        code = _source(row, where)
        if isinstance(label, bool) or not isinstance(label, int) or label not in (0, 1):
            raise UserError(f"{where}: field 'target' must be 0 or 1, not {shown(label)}")
        yield Example(id=f"{split}-{number_of(row, number, where)}", language="c", code=code, label=label)


def _source(row: Mapping[str, Any], where: str) -> str:
    code = row.get("func")
    if not isinstance(code, str) or not code.strip():
        raise UserError(f"{where}: field 'func' must be the source of a function, not {shown(code)}")
    check_length(code, "func", where)
    return code


def bugs2fix(mirror: Path) -> SourceFiles:
    files = {split: (f"{split}.buggy-fixed.buggy", f"{split}.buggy-fixed.fixed") for split in SPLITS}
    return SourceFiles(mirror / "bugs2fix_small", files, _bugs2fix, Lock(mirror))


def _bugs2fix(split: str, paths: Sequence[Path]) -> Iterator[Example]:
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


#: Lists of pairs that stand for the test split where only a sample of it is there.
_SAMPLES = ("test_sampled.txt", "test_pairs_codepurify.txt")


def bigclonebench(mirror: Path) -> SourceFiles:
    folder = mirror / "bigclonebench"
    lists: dict[str, tuple[str, ...]] = {split: (f"{split}.txt",) for split in SPLITS}
    if not (folder / "test.txt").is_file():
        lists["test"] = tuple(name for name in _SAMPLES if (folder / name).is_file()) or lists["test"]
    files = {split: ("data.jsonl", *names) for split, names in lists.items()}
    return SourceFiles(folder, files, _bigclonebench, Lock(mirror))


def _bigclonebench(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    functions: dict[str, str] = {}
    for number, row in read_rows(paths[0]):
        where = f"{paths[0]}:{number}"
        if row.get("idx") is None:
            raise UserError(f"{where}: write the number of the function as 'idx'")
        functions[number_of(row, number, where)] = _source(row, where)
    seen = set()
    for path in paths[1:]:
        for number, line in enumerate(read_text(path).splitlines(), 1):
            parts = line.split()
            if len(parts) != 3 or parts[2] not in ("0", "1"):
                raise UserError(f"{path}:{number}: expected two numbers of functions and 0 or 1, not {shown(line)}")
            first, second, label = parts
            for one in (first, second):
                if one not in functions:
                    raise UserError(f"{path}:{number}: no function has the number {shown(one)} in {paths[0].name}")
            if (first, second) not in seen:
                seen.add((first, second))
                yield Example(
                    id=f"{split}-{first}-{second}",
                    language="java",
                    code=functions[first],
                    code_b=functions[second],
                    label=int(label),
                )


def codesearchnet(mirror: Path) -> SourceFiles:
    files = {split: (f"{split}.jsonl",) for split in SPLITS}
    return SourceFiles(mirror / "codesearchnet_python", files, _codesearchnet, Lock(mirror))


def _codesearchnet(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    """Rows without a usable query, or without a function, are left out, as CodeXGLUE leaves them out."""
    for number, row in read_rows(paths[0]):
        where = f"{paths[0]}:{number}"
        code, docstring = row.get("code", row.get("original_string")), row.get("docstring")
        # some copies hold the lines of a function
        if isinstance(code, list) and all(isinstance(line, str) for line in code):
            code = "".join(code)
        if not isinstance(code, str) or not isinstance(docstring, str):
            raise UserError(f"{where}: write the source of a function as 'code' and its 'docstring'")
        check_length(code, "code", where)
        check_length(docstring, "docstring", where)
        query, bare = query_of(docstring), without_docstring(code)
        if query is not None and bare is not None:
            yield Example(id=f"{split}-{number_of(row, number, where)}", language="python", code=bare, query=query)


def own(folder: Path) -> SourceFiles:
    """A user's folder of train.jsonl, valid.jsonl and test.jsonl, whose rows have the fields of an example."""
    return SourceFiles(
        folder, {split: (f"{split}.jsonl",) for split in SPLITS}, lambda _, paths: iter(read_examples(paths[0]))
    )


#: The papers' own data by task.
MIRRORED: Mapping[str, Callable[[Path], SourceFiles]] = {
    "defect_detection": devign,
    "clone_detection": bigclonebench,
    "code_search": codesearchnet,
    "code_repair": bugs2fix,
}


def source_files(settings: AnyDataset, name: str, mirror: str | Path | None) -> SourceFiles | None:
    """Return the files of the data set ``name``; None for one that is mined. UserError where no folder is named."""
    if settings.source == "pypi":
        return None
    if settings.path is not None:
        return own(settings.path)
    if mirror is None:
        raise UserError(
            f"datasets.{name}: source mirror needs the folder of the papers' own files; write it as `mirror`"
        )
    return MIRRORED[settings.task](Path(mirror))
