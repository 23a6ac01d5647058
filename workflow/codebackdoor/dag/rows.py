"""Checks the rows of a user's own data sets for `codebackdoor check`, which reports the first mistake of each file.

A run leaves these checks to its first jobs, because otherwise every job on a cluster would read the files again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from codebackdoor import tasks
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.config.study import Config
from codebackdoor.dag.files import Files
from codebackdoor.errors import UserError, quoted
from codebackdoor.files import read_examples
from codebackdoor.tasks.sources import row_problem


def problems(config: Config, files: Files) -> Iterator[str]:
    """A sentence for each damaged or missing file of data sets with source jsonl, even if no experiment uses them."""
    for name, settings in config.datasets.items():
        if settings.source != "jsonl":
            continue
        try:
            paths = files.sources(name)
        except UserError as error:
            yield str(error)
            continue
        ids: set[str] = set()
        for path in paths:
            yield from _problem(Path(path), settings, ids)


def _problem(path: Path, settings: AnyDataset, ids: set[str]) -> Iterator[str]:
    """Yield the first mistake of a file; ``ids`` are those of the files before it."""
    task = tasks.load(settings.task)
    try:
        rows = read_examples(path)
    except UserError as error:
        yield str(error)
        return
    for row in rows:
        if (problem := row_problem(row, settings, task, ids)) is not None:
            yield f"{path}: row {quoted(row.id)} {problem}"
            return
        ids.add(row.id)
