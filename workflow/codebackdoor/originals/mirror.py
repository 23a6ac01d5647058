"""The files of data sets that are not mined: published ones in the mirror folder, or a user's JSON Lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor.errors import UserError
from codebackdoor.files import read_examples
from codebackdoor.originals import readers
from codebackdoor.originals.base import SourceFiles
from codebackdoor.types import SPLITS

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset


def source_files(settings: AnyDataset, name: str, mirror: str | Path | None) -> SourceFiles | None:
    """The files of the data set ``name``; None for one that is mined. UserError if no folder is configured."""
    if settings.source == "pypi":
        return None
    if settings.path is not None:
        return user_files(settings.path)
    if mirror is None:
        raise UserError(
            f"datasets.{name}: source mirror needs the folder of the papers' own files; write it as `mirror`"
        )
    return readers.load(settings.originals).files(Path(mirror))


def user_files(folder: Path) -> SourceFiles:
    """A user's folder of train.jsonl, valid.jsonl and test.jsonl, whose rows have the fields of an example."""
    return SourceFiles(
        folder, {split: (f"{split}.jsonl",) for split in SPLITS}, lambda _, paths: iter(read_examples(paths[0]))
    )
