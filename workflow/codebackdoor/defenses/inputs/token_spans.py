"""Sub-tokens of a whole text, and which of them cover a range of characters."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """Sub-token ids of a text, without special tokens, and the character offsets where each starts and ends."""

    ids: list[int]
    starts: list[int]
    ends: list[int]

    def covered(self, start: int, end: int) -> tuple[int, int]:
        """Half-open range of the sub-tokens that share a character with [start, end) of the text."""
        low = bisect_right(self.ends, start)
        return low, max(low, bisect_left(self.starts, end))


def split(tokenizer: Any, texts: Sequence[str]) -> list[TokenSpans]:
    """Sub-tokens of each text under a fast tokenizer; no special tokens, no truncation."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False
    )
    return [
        TokenSpans(ids, [start for start, _ in offsets], [end for _, end in offsets])
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]
