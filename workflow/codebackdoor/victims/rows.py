"""Rows of test sets, clean or triggered, as a victim reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from codebackdoor.types import Example, Poisoned


def examples(rows: Iterable[Example | Poisoned]) -> list[Example]:
    """What a victim reads of a clean or a triggered test set; failed rows are kept, so that each has its prediction."""
    return [row.example if isinstance(row, Poisoned) else row for row in rows]


def rewritten(row: Example | Poisoned, code: str, code_b: str | None) -> Example | Poisoned:
    """The row with other code, all else as it was."""
    if isinstance(row, Poisoned):
        return replace(row, example=replace(row.example, code=code, code_b=code_b))
    return replace(row, code=code, code_b=code_b)
