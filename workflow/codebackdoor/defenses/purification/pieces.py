"""Sub-tokens of a whole text and which of them a stretch of characters covers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pieces:
    """Sub-token ids of a text, no special tokens, and the character offsets where each starts and ends."""

    ids: list[int]
    starts: list[int]
    ends: list[int]

    def covered(self, start: int, end: int) -> tuple[int, int]:
        """Half-open range of the sub-tokens that share a character with [start, end) of the text."""
        low = bisect_right(self.ends, start)
        return low, max(low, bisect_left(self.starts, end))


def split(tokenizer: Any, texts: Sequence[str]) -> list[Pieces]:
    """Sub-tokens of each text under a fast tokenizer; nothing is added, nothing truncated."""
    if not texts:
        return []
    found = tokenizer(
        list(texts), add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False
    )
    return [
        Pieces(ids, [start for start, _ in offsets], [end for _, end in offsets])
        for ids, offsets in zip(found["input_ids"], found["offset_mapping"], strict=True)
    ]
