"""Rows of clean and triggered test sets as inputs of a victim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from codebackdoor.types import Example, Field, Poisoned


def examples(rows: Iterable[Example | Poisoned]) -> list[Example]:
    """The inputs of a clean or a triggered test set; failed rows are included, so that each row has a prediction."""
    return [row.example if isinstance(row, Poisoned) else row for row in rows]


def rewritten(row: Example | Poisoned, texts: Mapping[Field, str]) -> Example | Poisoned:
    """The row with ``texts`` instead of all of its own texts, and everything else unchanged."""
    code, code_b, query = texts.get("code", ""), texts.get("code_b"), texts.get("query")
    if isinstance(row, Poisoned):
        return replace(row, example=replace(row.example, code=code, code_b=code_b, query=query))
    return replace(row, code=code, code_b=code_b, query=query)
