"""Inputs in parts: only one part at a time is in memory with all its versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
INPUTS_AT_ONCE = 512


def in_parts(items: Sequence[T], step: str) -> Iterator[Sequence[T]]:
    """At most ``INPUTS_AT_ONCE`` consecutive items at a time; a progress bar says ``step``."""
    with tqdm(total=len(items), desc=step, unit="input", disable=None) as bar:
        for start in range(0, len(items), INPUTS_AT_ONCE):
            part = items[start : start + INPUTS_AT_ONCE]
            yield part
            bar.update(len(part))
