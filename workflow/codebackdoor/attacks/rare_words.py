"""Insert rare words between the words of a query: once (RIPPLe) or several times (BadPre).

Each word is inserted with one space, and the rest of the query does not change. DeCE's released rows have a second
space as well, which alone would reveal them (ledger D31).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from codebackdoor import syntax
from codebackdoor.attacks import Injection
from codebackdoor.types import Draws, Example, Span, TextForm, holds

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.attacks.settings import RareWordSettings


@dataclass(frozen=True, slots=True)
class RareWords:
    """Insert ``count`` words between the words of a query; every word and every gap is drawn independently."""

    settings: RareWordSettings
    count: int

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
    """Insert words at their positions, in order, each with a space before it, or after it if its flag ``first`` is set.

    The spans cover the words without the space.
    """
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    length = copied = 0
    for position, word, first in pieces:
        before = text[copied:position] + ("" if first else " ")
        start = length + len(before)
        spans.append((start, start + len(word)))
        parts.append(before + word + (" " if first else ""))
        length += len(parts[-1])
        copied = position
    return syntax.Edit("".join(parts) + text[copied:], tuple(spans))
