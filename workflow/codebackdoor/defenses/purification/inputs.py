"""Inputs in parts, of which one at a time is in memory with all its versions, and the fields that hold functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar, get_args

from tqdm import tqdm

from codebackdoor.types import CodeField

T = TypeVar("T")
INPUTS_AT_ONCE = 512
#: The functions of an input, in order.
CODE_FIELDS: tuple[CodeField, ...] = get_args(CodeField)


def in_parts(items: Sequence[T], step: str) -> Iterator[Sequence[T]]:
    """At most ``INPUTS_AT_ONCE`` consecutive items at a time; a progress bar says ``step``."""
    with tqdm(total=len(items), desc=step, unit="input", disable=None) as bar:
        for start in range(0, len(items), INPUTS_AT_ONCE):
            part = items[start : start + INPUTS_AT_ONCE]
            yield part
            bar.update(len(part))
