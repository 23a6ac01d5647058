"""The functions of an input: its one, or the two of a pair, each of which a purification rewrites by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from codebackdoor.types import Example, Purified


def apart(inputs: Iterable[Example]) -> list[Example]:
    """Every function as an input of its own, in order: a pair becomes two."""
    found = []
    for example in inputs:
        found.append(replace(example, code_b=None))
        if example.code_b is not None:
            found.append(replace(example, code=example.code_b, code_b=None))
    return found


def together(inputs: Sequence[Example], found: Iterable[Purified]) -> list[Purified]:
    """The opposite of ``apart``, after purification; the evidence on a pair's second function is under ``code_b``."""
    rows, result = iter(found), []
    for example in inputs:
        row = next(rows)
        if example.code_b is None:
            result.append(row)
            continue
        other = next(rows)
        result.append(
            Purified(
                replace(example, code=row.example.code, code_b=other.example.code),
                (*row.touched, *(replace(span, field="code_b") for span in other.touched)),
                {**row.detail, "code_b": other.detail},
            )
        )
    return result
