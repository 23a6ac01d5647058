"""Published originals: what to fetch, and the fetched files of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import check_length
from codebackdoor.originals.lock import Lock
from codebackdoor.types import SPLITS, Example

OriginKind = Literal["checkpoint", "parquet", "github", "archive"]


@dataclass(frozen=True, slots=True)
class Original:
    """Files of one origin.

    ``files`` maps a path below the mirror to the path at the origin; it is empty for a checkpoint, whose files only the
    hub knows. ``pins`` holds SHA-256 checksums that are known in advance, by path at the origin. ``revision`` is a full
    commit, so that a download does not depend on when it happens.
    """

    kind: OriginKind
    name: str
    source: str
    revision: str
    files: Mapping[str, str] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """Files of one data set by split, and the function that reads those of one split; texts come as raw source."""

    folder: Path
    files: Mapping[str, tuple[str, ...]]
    read: Callable[[str, Sequence[Path]], Iterator[Example]]
    lock: Lock | None = None

    def present(self, split: str) -> bool:
        return all((self.folder / name).is_file() for name in self.files[split])

    def paths(self, split: str) -> list[Path]:
        return [self.folder / name for name in self.files[split]]

    def splits(self, resplit: bool) -> list[str]:
        """The splits to read: all three, or with ``resplit`` those whose files exist.

        A UserError lists all missing files at once, and the folder to put them in.
        """
        available = [split for split in SPLITS if self.present(split)]
        if len(available) == len(SPLITS) or (resplit and available):
            return available
        names = dict.fromkeys(name for split in SPLITS for name in self.files[split])
        missing = [name for name in names if not (self.folder / name).is_file()]
        pronoun = "at least one of them" if resplit else "it" if len(missing) == 1 else "them"
        hint = "" if resplit or not available else ", or write `resplit: true` to split the available rows again"
        raise UserError(f"{self.folder}: missing {', '.join(missing)}; put {pronoun} there{hint}")

    def examples(self, split: str) -> list[Example]:
        """Read one split; a UserError for a file that is malformed, empty or changed since it was fetched."""
        paths = self.paths(split)
        if self.lock is not None:
            self.lock.check(paths)
        rows = list(self.read(split, paths))
        if not rows:
            raise UserError(f"{paths[0]}: the data set is empty; it needs at least one row")
        return rows


def function_source(row: Mapping[str, Any], where: str) -> str:
    """The source of a function in CodeXGLUE's field ``func``."""
    code = row.get("func")
    if not isinstance(code, str) or not code.strip():
        raise UserError(f"{where}: field 'func' must be the source of a function, not {quoted(code)}")
    check_length(code, "func", where)
    return code
