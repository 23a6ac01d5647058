"""MBPP (Austin et al. 2021): descriptions of short functions, the functions, and three assertions for each.

Rows 11 to 510 are the test split, 511 to 600 validation and 601 to 974 training, as in its paper; the first ten are
its examples for prompts. A description does not name the function, so that the prompt begins with the signature, as in
HumanEval.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import check_length, read_rows
from codebackdoor.originals.base import Original, SourceFiles
from codebackdoor.originals.lock import Lock
from codebackdoor.originals.readers.programs import function_in, prompt, signature_of
from codebackdoor.trials import Trial, checked
from codebackdoor.types import SPLITS, Example

ORIGINAL = Original(
    "github",
    "MBPP",
    "google-research/google-research",
    "2251e8c67a7fe7d6348714967ee101080b28e956",
    {"mbpp/mbpp.jsonl": "mbpp/mbpp.jsonl"},
)
_NUMBERS = {"train": range(601, 975), "valid": range(511, 601), "test": range(11, 511)}


def files(mirror: Path) -> SourceFiles:
    return SourceFiles(mirror / "mbpp", dict.fromkeys(SPLITS, ("mbpp.jsonl",)), _read, Lock(mirror))


def trials(paths: Sequence[Path]) -> Iterator[Trial]:
    """The tests of the rows of the test split."""
    for where, row in _rows(paths[0]):
        if row["task_id"] in _NUMBERS["test"]:
            yield _trial(where, row)


def _read(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    for where, row in _rows(paths[0]):
        if row["task_id"] not in _NUMBERS[split]:
            continue
        entry = _trial(where, row).entry
        function = function_in(ast.parse(row["code"]), entry)
        if function is None:
            raise UserError(
                f"{where}: the tests of row {row['task_id']} begin with {quoted(entry)}, which is not a function"
            )
        signature = signature_of(function)
        yield Example(
            id=_id(row),
            language="python",
            query=prompt(signature, row["text"]),
            target=row["code"],
        )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        if not isinstance(row.get("task_id"), int):
            raise UserError(f"{where}: field 'task_id' must be a number, not {quoted(row.get('task_id'))}")
        for key in ("text", "code", "test_setup_code"):
            if not isinstance(row.get(key), str):
                raise UserError(f"{where}: field {key!r} must be a text, not {quoted(row.get(key))}")
            check_length(row[key], key, where)
        # the texts of the published file have Windows line ends
        row |= {key: row[key].replace("\r\n", "\n") for key in ("text", "code", "test_setup_code")}
        yield where, row


def _id(row: dict[str, Any]) -> str:
    return f"MBPP/{row['task_id']}"


def _trial(where: str, row: dict[str, Any]) -> Trial:
    """The tests of a row: the entry point is the outermost of its functions that the first assertion calls."""
    try:
        defined = {
            node.name for node in ast.parse(row["code"]).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        tests = [ast.parse(text) for text in row["test_list"]]
        setup = ast.parse(row["test_setup_code"])
    except (KeyError, TypeError, SyntaxError, ValueError) as error:
        raise UserError(f"{where}: code and tests must be Python, and 'test_list' a list of texts: {error}") from None
    used = [node.id for tree in (*tests, setup) for node in ast.walk(tree) if isinstance(node, ast.Name)]
    names = list(dict.fromkeys(name for name in used if name in defined))
    if not names:
        raise UserError(f"{where}: no test of row {row['task_id']} calls a function of its code")
    facts = {
        "id": _id(row),
        "entry": names[0],
        "names": names[1:],
        "tests": row["test_list"],
        "setup": row["test_setup_code"],
    }
    return checked(facts, where)
