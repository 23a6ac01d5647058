"""Phase (a): the pieces of the victim's vocabulary that an identifier may be made of (EliBadCode, section 4.2).

A byte-level tokenizer has two pieces for many a word: one that continues a word and one that begins it (``Ġ``). The
trigger vocabulary lists the former; where the trigger follows a space its first piece is rendered by the latter. Many
more words have the latter alone, and no trigger of the paper's vocabulary begins with one of these (ledger E51).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from codebackdoor.errors import UserError
from codebackdoor.types import Language
from codebackdoor.victims.tokens import WORD_INITIAL

Rule = Literal["paper", "words", "language", "all"]
Ids = NDArray[np.int64]

_PAPER = re.compile(r"[A-Za-z0-9_]+")
_VISIBLE = re.compile(r"[!-~]+")
_WITH_DOLLAR = re.compile(r"[A-Za-z0-9_$]+")
_LEGAL = {"python": _PAPER, "c": _PAPER, "java": _WITH_DOLLAR}
_LEGAL_FIRST = re.compile(r"[A-Za-z_$]")


def pieces(vocabulary: Sequence[str], rule: Rule, language: Language) -> list[str]:
    """Return the pieces that may stand inside of an identifier: the paper's one expression, or the language's own.

    ``all`` keeps every piece of visible characters: without phase (a), a trigger need be no identifier.
    """
    legal = {"paper": _PAPER, "words": _PAPER, "language": _LEGAL[language], "all": _VISIBLE}[rule]
    return [piece for piece in vocabulary if legal.fullmatch(piece)]


def starts(piece: str, rule: Rule) -> bool:
    """Whether an identifier may begin with this piece: always, but under the language's rule."""
    return rule != "language" or _LEGAL_FIRST.match(piece) is not None


@dataclass(frozen=True, slots=True)
class TriggerVocabulary:
    """``V`` pieces with their ids inside a word and at its beginning.

    A trigger is a sequence of indices into these arrays. ``plain`` is [V], or -1 of a piece that only begins words
    (``words``); ``spaced`` is [V], the id of the word-initial twin or -1; ``first`` lists the indices that may stand in
    the first slot. In the others may stand what has a ``plain`` id.
    """

    tokenizer: PreTrainedTokenizerFast
    pieces: tuple[str, ...]
    plain: Ids
    spaced: Ids
    first: Ids

    def __len__(self) -> int:
        return len(self.pieces)

    def text(self, trigger: Sequence[int]) -> str:
        return "".join(self.pieces[index] for index in trigger)

    def ids(self, trigger: Sequence[int], spaced: bool) -> list[int]:
        """Render a trigger as token ids, after a space or not."""
        found = [int(self.plain[index]) for index in trigger]
        if spaced:
            found[0] = int(self.spaced[trigger[0]])
        return found

    def survive(self, triggers: Sequence[Sequence[int]], contexts: Sequence[bool]) -> list[bool]:
        """Say for each trigger whether its text encodes to its own ids in every context (after a space, or not)."""
        alive = [True] * len(triggers)
        texts = [self.text(trigger) for trigger in triggers]
        for spaced in contexts:
            for index, ids in enumerate(encode(self.tokenizer, texts, spaced)):
                alive[index] = alive[index] and ids == self.ids(triggers[index], spaced)
        return alive


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], spaced: bool) -> list[list[int]]:
    """Ids of texts as they are read behind a space, or directly behind an opening bracket."""
    before = " " if spaced else "("
    skipped = 0 if spaced else len(_bare(tokenizer, [before])[0])
    return [ids[skipped:] for ids in _bare(tokenizer, [before + text for text in texts])]


def _bare(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    return [list(found.ids) for found in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]


def build(
    tokenizer: PreTrainedTokenizerFast, rule: Rule, language: Language, contexts: Sequence[bool]
) -> TriggerVocabulary:
    """Return the trigger vocabulary for places of the given contexts (after a space, or not).

    Where some place follows a space, the first slot is open only to pieces that have a word-initial twin: the
    others could not stand there as one piece. Where all places do, the rule ``words`` opens it to every piece that
    begins a word. Raises UserError where nothing is left.
    """
    table = tokenizer.get_vocab()
    known = sorted(table, key=lambda piece: table[piece])
    kept = pieces(known, rule, language)
    twins = [next((table[mark + piece] for mark in WORD_INITIAL if mark + piece in table), -1) for piece in kept]
    first = [
        index for index, piece in enumerate(kept) if starts(piece, rule) and (twins[index] >= 0 or not any(contexts))
    ]
    if not first:
        raise UserError(
            f"EliBadCode: none of the {len(known)} pieces of the victim's tokenizer can begin an identifier under "
            f"vocabulary: {rule}"
        )
    begin = _only_begin(known, kept) if rule == "words" and all(contexts) else {}
    return TriggerVocabulary(
        tokenizer=tokenizer,
        pieces=(*kept, *begin),
        plain=np.array([*(table[piece] for piece in kept), *(-1 for _ in begin)], dtype=np.int64),
        spaced=np.array([*twins, *(table[piece] for piece in begin.values())], dtype=np.int64),
        first=np.array([*first, *range(len(kept), len(kept) + len(begin))], dtype=np.int64),
    )


def _only_begin(known: Sequence[str], kept: Sequence[str]) -> dict[str, str]:
    """By its text, each piece that begins a word and has no twin among those that continue one."""
    begin = {piece[len(mark) :]: piece for piece in known for mark in WORD_INITIAL if piece.startswith(mark)}
    inside = set(kept)
    return {text: piece for text, piece in begin.items() if _PAPER.fullmatch(text) and text not in inside}
