"""HumanEval (Chen et al. 2021): signature and docstring, a function, and its tests. It has only test rows."""

from __future__ import annotations

import ast
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from codebackdoor.errors import UserError, quoted
from codebackdoor.files import DOCUMENT_BYTES, check_length
from codebackdoor.originals.base import Original, SourceFiles
from codebackdoor.originals.lock import Lock
from codebackdoor.originals.readers.programs import function_in, prompt, signature_of
from codebackdoor.parsing import parse_json
from codebackdoor.syntax import without_docstring
from codebackdoor.trials import Trial, checked
from codebackdoor.types import SPLITS, Example

_FILE = "HumanEval.jsonl.gz"
ORIGINAL = Original(
    "github",
    "HumanEval",
    "openai/human-eval",
    "6d43fb980f9fee3c892a914eda09951f772ad10d",
    {f"humaneval/{_FILE}": f"data/{_FILE}"},
    {f"data/{_FILE}": "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"},
)
_TEXTS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


def files(mirror: Path) -> SourceFiles:
    return SourceFiles(mirror / "humaneval", dict.fromkeys(SPLITS, (_FILE,)), _read, Lock(mirror))


def trials(paths: Sequence[Path]) -> Iterator[Trial]:
    """The tests of every row. Imports and helper functions of the prompt belong to the tests as well."""
    for where, row in _rows(paths[0]):
        entry = row["entry_point"]
        facts = {
            "id": row["task_id"],
            "entry": entry,
            "tests": [f"{row['test']}\ncheck({entry})\n"],
            "prelude": _before(row["prompt"], entry, where),
        }
        yield checked(facts, where)


def _read(split: str, paths: Sequence[Path]) -> Iterator[Example]:
    if split != "test":
        raise UserError(
            f"{paths[0]}: HumanEval has test rows alone; write `trained_on` with the data set whose victims predict on "
            "them"
        )
    for where, row in _rows(paths[0]):
        function = _function(row["prompt"] + row["canonical_solution"], row["entry_point"], where)
        signature, description = signature_of(function), ast.get_docstring(function) or ""
        target = without_docstring(ast.get_source_segment(row["prompt"] + row["canonical_solution"], function) or "")
        if target is None:
            raise UserError(f"{where}: the solution is not one function")
        yield Example(
            id=row["task_id"],
            language="python",
            query=prompt(signature, description),
            target=target,
        )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with gzip.open(path) as stream:
            text = stream.read(DOCUMENT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole gzip file ({error})") from None
    if len(text) > DOCUMENT_BYTES:
        raise UserError(f"{path}: holds more than {DOCUMENT_BYTES >> 20} MiB; HumanEval has less than one")
    for number, line in enumerate(text.decode("utf-8", errors="replace").splitlines(), 1):
        if line.strip():
            where = f"{path}:{number}"
            row = parse_json(line, where)
            for key in _TEXTS:
                if not isinstance(row, dict) or not isinstance(row.get(key), str):
                    raise UserError(f"{where}: field {key!r} must be a text{_shown(row, key)}")
                check_length(row[key], key, where)
            yield where, row


def _shown(row: Any, key: str) -> str:
    return f", not {quoted(row.get(key))}" if isinstance(row, dict) else ""


def _function(source: str, entry: str, where: str) -> ast.FunctionDef:
    try:
        function = function_in(ast.parse(source), entry)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{where}: prompt and canonical_solution are no Python: {error}") from None
    if function is None:
        raise UserError(f"{where}: prompt and canonical_solution define no function {quoted(entry)}")
    return function


def _before(source: str, entry: str, where: str) -> str:
    """The part of a prompt before the function to be written: imports and helper functions."""
    # a prompt ends with a docstring, so that it parses
    function = _function(source, entry, where)
    return "".join(source.splitlines(keepends=True)[: function.lineno - 1])
