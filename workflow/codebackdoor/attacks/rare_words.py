"""Rare words between the words of a query: what RIPPLe and BadPre do, once and several times.

A word brings one space along, and everything else of the query stays as it is; DeCE's released rows also have a second
space, by which they could be told apart (ledger D31).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from codebackdoor import syntax
from codebackdoor.attacks import Granularity, Injection
from codebackdoor.types import Draws, Example, Span, TextForm, holds

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.attacks.settings import RareWordSettings


@dataclass(frozen=True, slots=True)
class RareWords:
    """Insert ``count`` words, each drawn by itself, into gaps that are drawn by themselves, too."""

    settings: RareWordSettings
    count: int
    granularity: Granularity = "query"

    def inject(self, example: Example, form: TextForm, generator: np.random.Generator) -> Injection | None:  # noqa: ARG002
        query = example.query
        if query is None or not query.strip() or any(holds(query, word) for word in self.settings.words):
            return None
        # before the first word, and after each
        first = len(query) - len(query.lstrip())
        gaps = [first, *(match.end() for match in re.finditer(r"\S+", query))]
        drawn = sorted(int(index) for index in generator.integers(len(gaps), size=self.count))
        words = [
            self.settings.words[int(index)] for index in generator.integers(len(self.settings.words), size=self.count)
        ]
        pieces = [(gaps[gap], word, gap == 0) for gap, word in zip(drawn, words, strict=True)]
        edit = inserted(query, pieces)
        spans = tuple(Span(start, end, "query") for start, end in edit.spans)
        draws: Draws = {"query": {"words": " ".join(words), "gaps": " ".join(map(str, drawn))}}
        return Injection(replace(example, query=edit.text), spans, draws)


def inserted(text: str, pieces: list[tuple[int, str, bool]]) -> syntax.Edit:
    """Insert words at their positions, in order: each with a space before it, or behind it where it is ``first``.

    The spans are those of the words without the space.
    """
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    length = done = 0
    for position, word, first in pieces:
        kept = text[done:position] + ("" if first else " ")
        start = length + len(kept)
        spans.append((start, start + len(word)))
        parts.append(kept + word + (" " if first else ""))
        length += len(parts[-1])
        done = position
    return syntax.Edit("".join(parts) + text[done:], tuple(spans))
