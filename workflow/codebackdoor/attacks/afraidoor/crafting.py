"""Inputs and outputs of AFRAIDOOR's crafting model: texts with masked identifiers, and the names that can fill them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from codebackdoor import syntax
from codebackdoor.errors import UserError
from codebackdoor.types import Language
from codebackdoor.victims.tokens import WORD_INITIAL, stand_in
from codebackdoor.victims.victim import Victim

#: ASCII only: a byte-level vocabulary spells the bytes of other scripts in unrelated characters.
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


@dataclass(frozen=True, slots=True)
class Names:
    """The ``V`` tokens of a vocabulary that are legal names on their own.

    ``plain`` and ``spaced`` are [V]: the id of the name within a word (after a bracket) and at the beginning of one
    (after a space), -1 where the name is not a single token.
    """

    names: tuple[str, ...]
    plain: Tensor
    spaced: Tensor

    def scores(self, embeddings: Tensor, gradient: Tensor, occurrences: Sequence[tuple[int, bool]]) -> Tensor:
        """Return [V]: E_v · g, the first-order change of the loss up to the constant -E_mask · g.

        ``embeddings`` is [tokens, H]; g is ``gradient`` [T, H] averaged over an identifier's ``occurrences``. The score
        is infinite for a name that is not a single token at one of them.
        """
        scores = torch.zeros(len(self.names))
        for ids, at_word_start in ((self.plain, False), (self.spaced, True)):
            positions = [position for position, begins in occurrences if begins == at_word_start]
            if positions:
                part = gradient[positions].sum(0) / len(occurrences)
                scores += torch.where(ids >= 0, embeddings[ids.clamp(min=0)] @ part, torch.inf)
        return scores


def names(tokenizer: Any, language: Language) -> Names:
    """Return the tokens of a vocabulary that can name something in the language: no keywords, no builtins."""
    spellings = {token.lstrip("".join(WORD_INITIAL)) for token in tokenizer.get_vocab()}
    legal = sorted(name for name in spellings if _PLAIN.fullmatch(name) and syntax.unreserved_name(name, language))
    plain, spaced = _single(tokenizer, legal, "("), _single(tokenizer, legal, " ")
    usable = [index for index in range(len(legal)) if plain[index] >= 0 or spaced[index] >= 0]
    if not usable:
        raise UserError(f"no token of the crafting model's tokenizer is a legal name of {language}; use another model")
    return Names(
        tuple(legal[index] for index in usable),
        torch.tensor([plain[index] for index in usable]),
        torch.tensor([spaced[index] for index in usable]),
    )


def _single(tokenizer: Any, words: Sequence[str], before: str) -> list[int]:
    """Id of each word after ``before``; -1 for a word that is not a single token there."""

    def encode(texts: list[str]) -> list[list[int]]:
        encodings = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        return [list(encoding.ids) for encoding in encodings]

    head = [] if before == " " else encode([before])[0]
    rows = encode([before + word for word in words])
    return [row[-1] if len(row) == len(head) + 1 and row[:-1] == head else -1 for row in rows]


@dataclass(frozen=True, slots=True)
class MaskedText:
    """Sub-tokens of a text in which each occurrence of an identifier is one mask.

    ``occurrences`` lists, for each identifier, those within the model's input: (position, whether a word begins there).
    """

    ids: list[int]
    occurrences: list[list[tuple[int, bool]]]


def mask(victim: Victim, texts: Sequence[str], identifiers: Sequence[Sequence[syntax.Identifier]]) -> list[MaskedText]:
    """Encode each text with all occurrences of its identifiers masked, truncated to the victim's longest input.

    A sub-token that an identifier shares with its neighbor (``(_x``) is masked with it.
    """
    tokenizer, (_, mask_id) = victim.tokenizer, stand_in(victim.tokenizer, "unknown")
    # after the beginning-of-sequence token, as in ``Victim.encode``
    prefix = tokenizer.convert_tokens_to_ids(list(victim.prefix))
    encoded = tokenizer(list(texts), return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    masked = []
    for row, row_identifiers in enumerate(identifiers):
        ids, offsets, special = (encoded[key][row] for key in _ENCODED)
        ending = next((index for index, is_special in enumerate(reversed(special)) if not is_special), len(special))
        spans = sorted(
            (start, end, owner) for owner, identifier in enumerate(row_identifiers) for start, end in identifier.spans
        )
        masked_ids: list[int] = []
        occurrences: list[list[tuple[int, bool]]] = [[] for _ in row_identifiers]
        last_masked = -1
        for index in range(len(ids) - ending):
            start, end = offsets[index]
            while spans and spans[0][1] <= start:
                spans.pop(0)
            if special[index] or not spans or end <= spans[0][0]:
                masked_ids.append(ids[index])
            elif spans[0][0] != last_masked:
                last_masked = spans[0][0]
                begins_word = str(tokenizer.convert_ids_to_tokens(ids[index])).startswith(WORD_INITIAL)
                occurrences[spans[0][2]].append((len(masked_ids), begins_word))
                masked_ids.append(mask_id)
        room = victim.max_length - ending - len(prefix)
        masked_ids = [*masked_ids[:1], *prefix, *masked_ids[1:room], *ids[len(ids) - ending :]]
        readable = [
            [(position + len(prefix), begins) for position, begins in positions if position < room]
            for positions in occurrences
        ]
        masked.append(MaskedText(masked_ids, readable))
    return masked


_ENCODED = ("input_ids", "offset_mapping", "special_tokens_mask")
