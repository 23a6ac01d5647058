"""Phase (a): the pieces of the victim's vocabulary that an identifier may be made of (EliBadCode, section 4.2).

A byte-level tokenizer has two pieces for many words: one inside a longer word and one at the beginning (``Ġ``). The
trigger vocabulary lists the former; if the trigger follows a space, its first piece is replaced by the latter. Many
more words have only the latter, and no trigger of the paper's vocabulary begins with one of these (ledger E51).

Without phase (a), and where a trigger is a statement, every piece with a printable text may stand in every slot: a
word-initial one inside the trigger brings its space along.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from codebackdoor.defenses.elimination.inversion.settings import VocabularyRule
from codebackdoor.errors import UserError
from codebackdoor.types import Language
from codebackdoor.victims.tokens import WORD_INITIAL

IdArray = NDArray[np.int64]
#: A trigger's token ids as read after a space and elsewhere.
Rendered = tuple[Sequence[int], Sequence[int]]

log = logging.getLogger(__name__)

_PAPER = re.compile(r"[A-Za-z0-9_]+")
_WITH_DOLLAR = re.compile(r"[A-Za-z0-9_$]+")
_LEGAL = {"python": _PAPER, "c": _PAPER, "java": _WITH_DOLLAR}
_LEGAL_FIRST = re.compile(r"[A-Za-z_$]")


def pieces(vocabulary: Sequence[str], rule: VocabularyRule, language: Language) -> list[str]:
    """Return the pieces that an identifier may contain: by the paper's single expression, or by the language's."""
    legal = _LEGAL[language] if rule == "language" else _PAPER
    return [piece for piece in vocabulary if legal.fullmatch(piece)]


def starts(piece: str, rule: VocabularyRule) -> bool:
    """Whether an identifier may begin with this piece: always, but under the language's rule."""
    return rule != "language" or _LEGAL_FIRST.match(piece) is not None


@dataclass(frozen=True, slots=True)
class TriggerVocabulary:
    """``V`` pieces with their ids inside a word and at its beginning.

    A trigger is a sequence of indices into these arrays. ``plain`` is [V], the id in every slot except a first one
    after a space (-1 for a piece that only begins words); ``spaced`` is [V], the id in that slot, or -1; ``first``
    lists the indices that the first slot allows. The other slots allow every piece with a ``plain`` id. A piece whose
    text begins with a space has only a ``plain`` id, and is never first.
    """

    tokenizer: PreTrainedTokenizerFast
    pieces: tuple[str, ...]
    plain: IdArray
    spaced: IdArray
    first: IdArray

    def __len__(self) -> int:
        return len(self.pieces)

    def text(self, trigger: Sequence[int]) -> str:
        return joined([self.pieces[index] for index in trigger])

    def ids(self, trigger: Sequence[int], spaced: bool) -> list[int]:
        """Render a trigger as token ids, after a space or not."""
        ids = [int(self.plain[index]) for index in trigger]
        if spaced:
            ids[0] = int(self.spaced[trigger[0]])
        return ids

    def survive(self, triggers: Sequence[Sequence[int]], contexts: Sequence[bool]) -> list[bool]:
        """Say for each trigger whether its text encodes to its own ids in every context (after a space, or not)."""
        alive = [True] * len(triggers)
        texts = [self.text(trigger) for trigger in triggers]
        for spaced in contexts:
            for index, ids in enumerate(encode(self.tokenizer, texts, spaced)):
                alive[index] = alive[index] and ids == self.ids(triggers[index], spaced)
        return alive


def joined(pieces: Sequence[str]) -> str:
    """The text of a trigger made of these pieces; the space before it belongs to the sample."""
    return "".join(pieces).lstrip(" ")


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], spaced: bool) -> list[list[int]]:
    """Ids of texts as they are encoded after a space, or directly after an opening bracket."""
    before = " " if spaced else "("
    skipped = 0 if spaced else len(_bare(tokenizer, [before])[0])
    return [ids[skipped:] for ids in _bare(tokenizer, [before + text for text in texts])]


def rendered(vocabulary: TriggerVocabulary, trigger: Sequence[int]) -> Rendered:
    return vocabulary.ids(trigger, spaced=True), vocabulary.ids(trigger, spaced=False)


def rendered_text(vocabulary: TriggerVocabulary, text: str) -> Rendered:
    """The ids with which the victim reads this text as an identifier, even if it was made of other pieces."""
    return encode(vocabulary.tokenizer, [text], True)[0], encode(vocabulary.tokenizer, [text], False)[0]


def _bare(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    return [
        list(encoding.ids) for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    ]


def build(
    tokenizer: PreTrainedTokenizerFast, rule: VocabularyRule, language: Language, contexts: Sequence[bool]
) -> TriggerVocabulary:
    """Return the trigger vocabulary for positions of the given contexts (after a space, or not).

    If some position follows a space, the first slot allows only pieces that have a word-initial twin: others would not
    be a single piece there. If all do, the rules ``words`` and ``all`` also allow every piece that begins a word. If
    only some do, such a piece would be several sub-tokens at the others, so that ``words`` falls back to the paper's
    rule, which is logged. Raises UserError if no piece is left.
    """
    table = tokenizer.get_vocab()
    all_pieces = sorted(table, key=lambda piece: table[piece])
    if rule == "all":
        special = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
        ordinary = [piece for piece in all_pieces if piece not in special]
        usable = {piece: _printed(tokenizer, piece) for piece in ordinary if not piece.startswith(WORD_INITIAL)}
        usable = {piece: text for piece, text in usable.items() if text}
        initial = _initial(ordinary, lambda piece: _printed(tokenizer, piece))
        inside = {f" {text}": piece for text, piece in initial.items()}
    else:
        usable = {piece: piece for piece in pieces(all_pieces, rule, language)}
        initial = (
            _initial(all_pieces, lambda piece: piece if _PAPER.fullmatch(piece) else "") if rule == "words" else {}
        )
        inside = {}
    texts = [*usable.values()]
    twins = [next((table[mark + piece] for mark in WORD_INITIAL if mark + piece in table), -1) for piece in usable]
    first = [
        index for index, text in enumerate(texts) if starts(text, rule) and (twins[index] >= 0 or not any(contexts))
    ]
    if not first:
        raise UserError(
            f"none of the {len(all_pieces)} pieces of the victim's tokenizer can begin an identifier under "
            f"vocabulary: {rule}"
        )
    if rule == "words" and any(contexts) and not all(contexts):
        log.warning(
            "vocabulary: words needs positions that all follow a space, here only some do; using vocabulary: paper"
        )
    continuing = set(texts)
    begin = {text: piece for text, piece in initial.items() if all(contexts) and text not in continuing}
    return TriggerVocabulary(
        tokenizer=tokenizer,
        pieces=(*texts, *inside, *begin),
        plain=np.array([*(table[piece] for piece in (*usable, *inside.values())), *(-1 for _ in begin)], np.int64),
        spaced=np.array([*twins, *(-1 for _ in inside), *(table[piece] for piece in begin.values())], np.int64),
        first=np.array([*first, *range(len(texts) + len(inside), len(texts) + len(inside) + len(begin))], np.int64),
    )


def _initial(all_pieces: Sequence[str], text_of: Callable[[str], str]) -> dict[str, str]:
    """The pieces that begin a word, by their text without the space; pieces without a text are left out."""
    marked = ((piece, mark) for piece in all_pieces for mark in WORD_INITIAL if piece.startswith(mark))
    texts = ((text_of(piece[len(mark) :]), piece) for piece, mark in marked)
    return {text: piece for text, piece in texts if text}


def _printed(tokenizer: PreTrainedTokenizerFast, piece: str) -> str:
    """The text of a piece of complete, visible characters; empty for other pieces."""
    text = tokenizer.convert_tokens_to_string([piece]) if piece else ""
    visible = text.isprintable() and " " not in text and "\ufffd" not in text
    return text if visible else ""
