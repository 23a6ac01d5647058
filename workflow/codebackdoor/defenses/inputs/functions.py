"""The functions of an input: the only one, or both of a pair. A method reads or rewrites each of them by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import get_args

from codebackdoor.types import CodeField, Example, Purified

#: The fields that hold the functions of an input, in order.
CODE_FIELDS: tuple[CodeField, ...] = get_args(CodeField)


def apart(inputs: Iterable[Example]) -> list[Example]:
    """Every function as an input of its own, in order: a pair becomes two inputs."""
    functions = []
    for example in inputs:
        functions.append(replace(example, code_b=None))
        if example.code_b is not None:
            functions.append(replace(example, code=example.code_b, code_b=None))
    return functions


def together(inputs: Sequence[Example], functions: Iterable[Purified]) -> list[Purified]:
    """The inverse of ``apart``, after purification; the evidence on a pair's second function is under ``code_b``."""
    rows, result = iter(functions), []
    for example in inputs:
        first = next(rows)
        if example.code_b is None:
            result.append(first)
            continue
        second = next(rows)
        result.append(
            Purified(
                replace(example, code=first.example.code, code_b=second.example.code),
                (*first.touched, *(replace(span, field="code_b") for span in second.touched)),
                {**first.detail, "code_b": second.detail},
            )
        )
    return result
