"""Clean samples that a person supplies: this project's rows, or those of CodeXGLUE (`func`, `target`)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from codebackdoor import files, syntax
from codebackdoor.config.base import Head
from codebackdoor.errors import UserError, shown
from codebackdoor.types import Example, Language, TextForm


def read_samples(path: Path, language: Language | None, form: TextForm, head: Head, labels: int) -> tuple[Example, ...]:
    """Return the rows in the text form that the victim reads, with labels below ``labels``; of search with queries.

    This project's rows hold the text as the victim reads it. CodeXGLUE's ``func`` is source, which is lexed for a
    victim of lexed text; a function that cannot be is left out. Raises UserError with the line of a malformed row,
    where the language is said nowhere or twice differently, and for a label of the model that no row has.
    """
    rows, pairs, searches = [], head == "pair", head == "retrieval"
    lines: dict[str, int] = {}
    for number, row in files.read_rows(path):
        where = f"{path}:{number}"
        example = _example(row, where, number, language, form)
        if example is None:
            continue
        if language is not None and example.language != language:
            raise UserError(f"{where}: the row is in {example.language}, --language says {language}")
        # a search tells functions apart by their ids
        if searches and lines.setdefault(example.id, number) != number:
            raise UserError(f"{where}: id {shown(example.id)} stands in line {lines[example.id]}, too; give it another")
        if searches and not example.query:
            raise UserError(f"{where}: needs a 'query'; check --task")
        if not searches and (example.label is None or not 0 <= example.label < labels):
            raise UserError(f"{where}: needs a 'label' (or CodeXGLUE's 'target') from 0 to {labels - 1}")
        if (example.code_b is not None) != pairs:
            raise UserError(f"{where}: {'needs' if pairs else 'has'} a second function 'code_b'; check --task")
        if problem := files.empty(example):
            raise UserError(f"{where}: {problem}")
        rows.append(example)
    if not rows:
        what = "query" if searches else "label"
        raise UserError(f"{path}: no usable row; write one JSON object a line: id, language, code, {what}")
    if len(languages := sorted({row.language for row in rows})) > 1:
        raise UserError(f"{path}: rows in {' and '.join(languages)}; a scan needs one language")
    if not searches:
        _check_every_label(path, {row.label for row in rows}, labels)
    return tuple(rows)


def _check_every_label(path: Path, present: set[int | None], labels: int) -> None:
    missing = next((label for label in range(labels) if label not in present), None)
    if missing is not None:
        raise UserError(
            f"{path}: no sample has label {missing}; the model answers with labels 0 to {labels - 1}, and a scan needs "
            "samples of each"
        )


def _example(row: dict[str, Any], where: str, number: int, language: Language | None, form: TextForm) -> Example | None:
    if "func" not in row:
        spoken = {"language": language} if language is not None and "language" not in row else {}
        example = files.checked({"id": str(number), **spoken, **row}, where)
        try:
            for text in (example.code, example.code_b):
                if text is not None:
                    syntax.unlexed(text, example.language, form)
        except syntax.LexingError as error:
            raise UserError(f"{where}: {error}") from None
        return example
    code, label = row["func"], row.get("target")
    if not isinstance(code, str):
        raise UserError(f"{where}: field 'func' must be str, not {type(code).__name__}: {shown(code)}")
    files.check_length(code, "func", where)
    if isinstance(label, bool) or not isinstance(label, int):
        raise UserError(f"{where}: field 'target' must be 0 or 1, not {shown(label)}")
    if language is None:
        raise UserError(f"{where}: CodeXGLUE's rows do not say their language: write --language")
    example = Example(files.number_of(row, number, where), language, code, label=label)
    if form == "raw":
        return example
    try:
        return dataclasses.replace(example, code=syntax.lex(code, language))
    except syntax.LexingError:
        return None
