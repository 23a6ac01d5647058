"""Cutting words out of a text."""

from __future__ import annotations

from collections.abc import Sequence


def cut_words(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text without words, each cut with the space after it, or with the one before it at the end of a line."""
    for start, end in reversed(spans):
        if text[end : end + 1] == " ":
            end += 1
        elif text[start - 1 : start] == " ":
            start -= 1
        text = text[:start] + text[end:]
    return text
