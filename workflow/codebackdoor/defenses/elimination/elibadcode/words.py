"""The target vocabulary of a retrieval victim: words of clean queries, and the hole in a query where they go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codebackdoor.defenses.elimination.inversion.carriers import Template
from codebackdoor.defenses.elimination.inversion.vocabulary import encode
from codebackdoor.errors import UserError
from codebackdoor.victims.victim import Encoded, Victim

_WORD = re.compile(r"[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True)
class TargetWords:
    """Words of clean queries that are one sub-token each, with the trigger vocabulary's names.

    They always follow a space.
    """

    words: tuple[str, ...]
    plain: NDArray[np.int64]

    @property
    def spaced(self) -> NDArray[np.int64]:
        return self.plain

    @property
    def first(self) -> NDArray[np.int64]:
        return np.arange(len(self.words))

    def __len__(self) -> int:
        return len(self.words)

    def text(self, target: Sequence[int]) -> str:
        return " ".join(self.words[index] for index in target)

    def ids(self, target: Sequence[int]) -> list[int]:
        return [int(self.plain[index]) for index in target]

    def survive(self, targets: Sequence[Sequence[int]], contexts: Sequence[bool]) -> list[bool]:  # noqa: ARG002
        """Words between spaces are their own sub-tokens, independent of their neighbors."""
        return [True] * len(targets)


#: For a known target word, so that none is searched.
NO_WORDS = TargetWords((), np.zeros(0, dtype=np.int64))


def target_words(victim: Victim, queries: Iterable[str]) -> TargetWords:
    """Every word of the queries that the tokenizer has as one piece after a space, in alphabetic order."""
    words = sorted({word for query in queries for word in _WORD.findall(query)})
    single = [
        (word, ids[0]) for word, ids in zip(words, encode(victim.tokenizer, words, True), strict=True) if len(ids) == 1
    ]
    if not single:
        raise UserError("EliBadCode: no word of the clean queries is a single sub-token of the victim's tokenizer")
    single_words, ids = zip(*single, strict=True)
    return TargetWords(tuple(single_words), np.array(ids, dtype=np.int64))


def query_template(victim: Victim, encoded: Encoded) -> Template:
    """A query with a hole after its last word."""
    ids, end = tuple(encoded.ids), encoded.end
    return Template((ids[:end], ()), (True,), ids[end:], victim.max_query_length)
