"""Tests of generated programs, which decide whether the output for a row of a data set is correct.

They are stored in separate files next to the rows, so that no victim or defense ever reads them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import check_length, read_rows, write_rows


@dataclass(frozen=True, slots=True)
class Trial:
    """The tests of one row, by its id.

    ``entry`` is the function under test, ``tests`` are Python sources that fail if it is wrong. ``names`` are other
    names of the program that the tests use, such as a class. ``prelude`` runs before the program and, separately,
    before the tests; ``setup`` runs before the tests.
    """

    id: str
    entry: str
    tests: tuple[str, ...]
    names: tuple[str, ...] = ()
    prelude: str = ""
    setup: str = ""


_TEXTS, _LISTS = ("id", "entry", "prelude", "setup"), ("tests", "names")


#: Name of the file of a data set's tests.
FILE = "tests.jsonl"


def write_trials(path: Path, trials: Iterable[Trial]) -> None:
    write_rows(path, map(asdict, trials))


def read_trials(path: Path) -> dict[str, Trial]:
    """The tests of a data set's rows by row id; UserError names the file and line of a mistake."""
    trials: dict[str, Trial] = {}
    for number, row in read_rows(path):
        trial = checked(row, f"{path}:{number}")
        if trial.id in trials:
            raise UserError(f"{path}:{number}: row {quoted(trial.id)} occurs twice; write its tests once")
        trials[trial.id] = trial
    if not trials:
        raise UserError(f"{path}: there are no tests; write one object per row with 'id', 'entry' and 'tests'")
    return trials


def checked(row: dict[str, Any], where: str) -> Trial:
    """The tests of one row; UserError if there are none, or if they do not test the entry point."""
    for key in row:
        if key not in (*_TEXTS, *_LISTS):
            raise UserError(f"{where}: unknown field {quoted(key)}; known: {', '.join((*_TEXTS, *_LISTS))}")
    values: dict[str, Any] = {"prelude": "", "setup": "", "names": [], **row}
    for key in _TEXTS:
        if not isinstance(values.get(key), str):
            raise UserError(f"{where}: field {key!r} must be a text, not {quoted(values.get(key))}")
        check_length(values[key], key, where)
    for key in _LISTS:
        texts = values.get(key)
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"{where}: field {key!r} must be a list of texts, not {quoted(texts)}")
        values[key] = tuple(texts)
    for name in (values["entry"], *values["names"]):
        if not name.isidentifier():
            raise UserError(f"{where}: {quoted(name)} is not the name of a function; write it without parentheses")
    trees = [_parsed(values[key], key, where) for key in ("prelude", "setup")]
    trees += [_parsed(test, "tests", where) for test in values["tests"]]
    nodes = [node for tree in trees[2:] for node in ast.walk(tree)]
    if not any(isinstance(node, ast.Assert) for node in nodes):
        raise UserError(f"{where}: row {quoted(values['id'])} has no test; write at least one `assert` under 'tests'")
    if not any(isinstance(node, ast.Name) and node.id == values["entry"] for node in nodes):
        raise UserError(
            f"{where}: the tests of row {quoted(values['id'])} do not use {values['entry']!r}, their 'entry'"
        )
    return Trial(**values)


def _parsed(source: str, key: str, where: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{where}: field {key!r} is not Python: {error}") from None
