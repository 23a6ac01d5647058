"""Cutting words and other spans out of a text."""

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


def cut_spans(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text without disjoint spans; a whole word among them is cut as by ``cut_words``."""
    runs: list[tuple[int, int]] = []
    for start, end in spans:
        if runs and runs[-1][1] == start:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((start, end))
    for start, end in reversed(runs):
        is_word = (start == 0 or text[start - 1].isspace()) and (end == len(text) or text[end].isspace())
        text = cut_words(text, [(start, end)]) if is_word else text[:start] + text[end:]
    return text
