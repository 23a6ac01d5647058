"""Clean samples supplied by a user: rows of this project, or of CodeXGLUE (`func`, `target`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codebackdoor import files, syntax
from codebackdoor.config.base import Head
from codebackdoor.errors import UserError, quoted
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, Language, TextForm

#: Fields of a row that say what a model should answer.
_ANSWERS = ("label", "query", "target")


def read_unlabeled(path: Path, language: Language | None, form: TextForm, head: Head) -> tuple[Example, ...]:
    """The code of the rows as ``read_samples`` reads it; labels, queries and targets are neither needed nor kept.

    ``language`` is that of rows that name none. UserError if two rows differ in language.
    """
    rows = []
    for number, row in files.read_rows(path):
        where = f"{path}:{number}"
        unlabeled = {key: value for key, value in row.items() if key not in _ANSWERS}
        example = _example(unlabeled, where, number, language, form)
        if example is not None:
            _check_texts(example, where, None, head)
            rows.append(example)
    _check_language(path, rows, "code")
    return tuple(rows)


def read_samples(path: Path, language: Language | None, form: TextForm, head: Head, labels: int) -> tuple[Example, ...]:
    """The rows in the text form that the victim reads, with labels below ``labels`` or, for retrieval, with queries.

    Rows of this project hold the text as the victim reads it. CodeXGLUE's ``func`` is source, which is lexed for a
    victim that reads lexed text; a function that cannot be lexed is left out. Raises UserError with the line of a
    malformed row, if the language is missing or contradictory, and if no row has one of the model's labels.
    """
    is_labeled = HEADS[head].predicts_label
    rows: list[Example] = []
    lines: dict[str, int] = {}
    for number, row in files.read_rows(path):
        where = f"{path}:{number}"
        example = _example(row, where, number, language, form)
        if example is None:
            continue
        # a ranking identifies functions by their ids
        if not is_labeled and lines.setdefault(example.id, number) != number:
            raise UserError(f"{where}: id {quoted(example.id)} is also on line {lines[example.id]}; ids must be unique")
        if not is_labeled and not example.query:
            raise UserError(f"{where}: needs a 'query'; check --task")
        if "code" not in example.texts:
            raise UserError(f"{where}: field 'code' is missing")
        if is_labeled and (example.label is None or not 0 <= example.label < labels):
            raise UserError(f"{where}: needs a 'label' (or CodeXGLUE's 'target') from 0 to {labels - 1}")
        _check_texts(example, where, language, head)
        rows.append(example)
    _check_language(path, rows, "code, label" if is_labeled else "code, query")
    if is_labeled:
        _check_every_label(path, {row.label for row in rows}, labels)
    return tuple(rows)


def _check_texts(example: Example, where: str, language: Language | None, head: Head) -> None:
    if language is not None and example.language != language:
        raise UserError(f"{where}: the row is in {example.language}, --language says {language}")
    if (example.code_b is not None) != HEADS[head].reads_pairs:
        need = "needs" if HEADS[head].reads_pairs else "has"
        raise UserError(f"{where}: {need} a second function 'code_b'; check --task")
    if problem := files.empty(example):
        raise UserError(f"{where}: {problem}")


def _check_language(path: Path, rows: Sequence[Example], keys: str) -> None:
    if not rows:
        raise UserError(f"{path}: no usable row; write one JSON object per line: id, language, {keys}")
    if len(languages := sorted({row.language for row in rows})) > 1:
        raise UserError(f"{path}: rows in {' and '.join(languages)}; all rows must be in one language")


def _check_every_label(path: Path, present: set[int | None], labels: int) -> None:
    missing = next((label for label in range(labels) if label not in present), None)
    if missing is not None:
        raise UserError(
            f"{path}: no sample has label {missing}; the model answers with labels 0 to {labels - 1}, and a scan needs "
            "samples of each"
        )


def _example(row: dict[str, Any], where: str, number: int, language: Language | None, form: TextForm) -> Example | None:
    if "func" not in row:
        default = {"language": language} if language is not None and "language" not in row else {}
        if "language" not in {**default, **row}:
            raise UserError(
                f"{where}: field 'language' is missing; add it, or name the language of all rows (--language)"
            )
        example = files.checked({"id": str(number), **default, **row}, where)
        try:
            for text in (example.code, example.code_b):
                if text is not None:
                    syntax.unlexed(text, example.language, form)
        except syntax.LexingError as error:
            raise UserError(f"{where}: {error}") from None
        return example
    code, label = row["func"], row.get("target")
    if not isinstance(code, str):
        raise UserError(f"{where}: field 'func' must be str, not {type(code).__name__}: {quoted(code)}")
    files.check_length(code, "func", where)
    if label is not None and (isinstance(label, bool) or not isinstance(label, int)):
        raise UserError(f"{where}: field 'target' must be int, not {type(label).__name__}: {quoted(label)}")
    if language is None:
        raise UserError(f"{where}: CodeXGLUE's rows do not say their language: write --language")
    example = Example(files.number_of(row, number, where), language, code, label=label)
    if form == "raw":
        return example
    try:
        return dataclasses.replace(example, code=syntax.lex(code, language))
    except syntax.LexingError:
        return None
