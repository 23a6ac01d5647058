"""Self-admitted technical debt (Maldonado et al. 2017): comments of ten Java projects, label 1 for any kind of debt.

The one file has no splits, so they are by project: two projects for testing, one for validation, and seven for
training. Licenses and generated comments recur within and across projects: each text is read once, in the first of
test, validation and training that contains it. A text with both labels is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from codebackdoor.errors import UserError, quoted
from codebackdoor.originals.base import Original, SourceFiles
from codebackdoor.originals.tables import table_rows
from codebackdoor.types import SPLITS, Example

ORIGINAL: Original | None = None
_PROJECT, _KIND, _TEXT = "projectname", "classification", "commenttext"
_NO_DEBT = "WITHOUT_CLASSIFICATION"
_KINDS = frozenset({_NO_DEBT, "DESIGN", "IMPLEMENTATION", "DEFECT", "TEST", "DOCUMENTATION"})
_HELD_OUT = {"apache-jmeter-2.10": "test", "jruby-1.4.0": "test", "columba-1.4-src": "valid"}


def files(mirror: Path) -> SourceFiles:
    names = dict.fromkeys(SPLITS, ("technical_debt_dataset.csv",))
    return SourceFiles(mirror / "technical_debt", names, _read)


def _read(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    rows = list(_rows(paths[0]))
    labels: dict[str, set[int]] = {}
    homes: dict[str, str] = {}
    for _, project, text, label in rows:
        labels.setdefault(text, set()).add(label)
        home = _HELD_OUT.get(project, "train")
        # test comes last among SPLITS, and first here
        homes[text] = max(homes.get(text, home), home, key=SPLITS.index)
    for number, project, text, label in rows:
        if len(labels[text]) == 1 and homes.get(text) == split == _HELD_OUT.get(project, "train"):
            del homes[text]
            yield Example(f"{split}-{number}", "java", query=text, label=label)


def _rows(path: Path) -> Iterator[tuple[int, str, str, int]]:
    """Number, project, text with single spaces, and label of each comment."""
    for number, (where, row) in enumerate(table_rows(path, (_PROJECT, _KIND, _TEXT), may_be_blank=(_TEXT,)), 1):
        if row[_KIND] not in _KINDS:
            raise UserError(f"{where}: {_KIND} must be one of {', '.join(sorted(_KINDS))}, not {quoted(row[_KIND])}")
        if text := " ".join(row[_TEXT].split()):
            yield number, row[_PROJECT], text, int(row[_KIND] != _NO_DEBT)
