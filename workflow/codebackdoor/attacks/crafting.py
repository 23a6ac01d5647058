"""What AFRAIDOOR asks a crafting model: sub-tokens with every identifier masked, and the names that may stand there."""

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

#: A tokenizer's vocabulary holds bytes of other scripts under names of its own.
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


@dataclass(frozen=True, slots=True)
class Names:
    """The ``V`` pieces that are legal names on their own.

    ``plain`` and ``spaced`` are [V]: the id of the name inside a word (behind a bracket) and at its beginning (behind a
    space), -1 where it is no single piece there.
    """

    names: tuple[str, ...]
    plain: Tensor
    spaced: Tensor

    def scores(self, embeddings: Tensor, gradient: Tensor, places: Sequence[tuple[int, bool]]) -> Tensor:
        """Return [V]: (E_v - E_mask) · g, the change of the loss to first order, but for E_mask · g, which all share.

        ``embeddings`` is [tokens, H]; g is ``gradient`` [T, H] averaged over an identifier's ``places``. Infinite where
        a name is no single piece at one of them.
        """
        found = torch.zeros(len(self.names))
        for ids, wanted in ((self.plain, False), (self.spaced, True)):
            own = [place for place, begins in places if begins == wanted]
            if own:
                part = gradient[own].sum(0) / len(places)
                found += torch.where(ids >= 0, embeddings[ids.clamp(min=0)] @ part, torch.inf)
        return found


def names(tokenizer: Any, language: Language) -> Names:
    """Return the pieces of a vocabulary that may name something in the language: no keyword, no builtin."""
    known = {piece.lstrip("".join(WORD_INITIAL)) for piece in tokenizer.get_vocab()}
    kept = sorted(one for one in known if _PLAIN.fullmatch(one) and syntax.unreserved_name(one, language))
    plain, spaced = _single(tokenizer, kept, "("), _single(tokenizer, kept, " ")
    places = [place for place in range(len(kept)) if plain[place] >= 0 or spaced[place] >= 0]
    if not places:
        raise UserError(f"no piece of the crafting model's tokenizer is a name of {language}; name another model")
    return Names(
        tuple(kept[place] for place in places),
        torch.tensor([plain[place] for place in places]),
        torch.tensor([spaced[place] for place in places]),
    )


def _single(tokenizer: Any, words: Sequence[str], before: str) -> list[int]:
    """Id of each word as it is read behind ``before``; -1 where it is not one piece of its own there."""

    def encode(texts: list[str]) -> list[list[int]]:
        found = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        return [list(one.ids) for one in found]

    head = [] if before == " " else encode([before])[0]
    rows = encode([before + word for word in words])
    return [row[-1] if len(row) == len(head) + 1 and row[:-1] == head else -1 for row in rows]


@dataclass(frozen=True, slots=True)
class Masked:
    """Sub-tokens of a text in which each given identifier is one mask; ``places`` are those of each identifier that lie
    inside the input: (position, whether it begins a word)."""

    ids: list[int]
    places: list[list[tuple[int, bool]]]


def mask(victim: Victim, texts: Sequence[str], found: Sequence[Sequence[syntax.Identifier]]) -> list[Masked]:
    """Encode each text with all occurrences of its identifiers masked, cut off at the victim's longest input.

    A sub-token that an identifier shares with its neighbour (``(_x``) is masked with it.
    """
    tokenizer, (_, substitute) = victim.tokenizer, stand_in(victim.tokenizer, "unknown")
    # behind the beginning of sequence, as in ``Victim.encode``
    prefix = tokenizer.convert_tokens_to_ids(list(victim.prefix))
    encoded = tokenizer(list(texts), return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    masked = []
    for row, identifiers in enumerate(found):
        ids, offsets, special = (encoded[key][row] for key in _ENCODED)
        ending = next((place for place, one in enumerate(reversed(special)) if not one), len(special))
        spans = sorted((start, end, owner) for owner, one in enumerate(identifiers) for start, end in one.spans)
        pieces: list[int] = []
        places: list[list[tuple[int, bool]]] = [[] for _ in identifiers]
        done = -1
        for place in range(len(ids) - ending):
            start, end = offsets[place]
            while spans and spans[0][1] <= start:
                spans.pop(0)
            if special[place] or not spans or end <= spans[0][0]:
                pieces.append(ids[place])
            elif spans[0][0] != done:
                done = spans[0][0]
                begins = str(tokenizer.convert_ids_to_tokens(ids[place])).startswith(WORD_INITIAL)
                places[spans[0][2]].append((len(pieces), begins))
                pieces.append(substitute)
        room = victim.max_length - ending - len(prefix)
        pieces = [*pieces[:1], *prefix, *pieces[1:room], *ids[len(ids) - ending :]]
        inside = [[(place + len(prefix), begins) for place, begins in own if place < room] for own in places]
        masked.append(Masked(pieces, inside))
    return masked


_ENCODED = ("input_ids", "offset_mapping", "special_tokens_mask")
