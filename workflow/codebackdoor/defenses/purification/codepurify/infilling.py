"""Filling masked places with the argmax of a masked language model, and nothing else (CodePurify, section III-B).

All masks are filled in parallel. An identifier gets one name everywhere: each of its sub-tokens is chosen by the mean
log-probability over all its occurrences, and a name that is illegal, a keyword, already taken in the text or the
suspected one is passed over for the next best. A statement is never filled with its own text.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from codebackdoor.defenses.purification.codepurify.masking import Element
from codebackdoor.defenses.purification.pieces import Pieces, split
from codebackdoor.syntax import Tree, legal_name
from codebackdoor.victims.batching import bucketed, halving, pad

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}

#: Fillings of one element that are tried; what is wanted is the best one that is legal, not any.
TRIES = 4096

Role = Literal["first", "inner", "any"]
#: How many of the best sub-tokens of a place are kept: a name must get past keywords and names already taken.
WIDTH: dict[Role, int] = {"first": 512, "inner": 512, "any": 16}

#: Sub-token ids and their mean log-probabilities, best first.
Ranked = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Slot:
    """One sub-token to choose, by the mean log-probability at ``positions`` of the whole text."""

    positions: list[int]
    role: Role


@dataclass(frozen=True, slots=True)
class Gap:
    """What is masked of one text, and the sub-tokens to choose: a name once, a statement place by place."""

    ids: list[int]
    masked: list[int]
    slots: list[list[Slot]]

    @property
    def flat(self) -> list[Slot]:
        return [slot for group in self.slots for slot in group]


class Infiller:
    """A masked language model of code (RoBERTa class, eval mode) with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        positions = int(model.config.max_position_embeddings) - int(model.config.pad_token_id) - 1
        #: Sub-tokens of one window, special tokens not counted.
        self._room = min(positions, int(tokenizer.model_max_length)) - 2
        self._allowed = _allowed(tokenizer, int(model.config.vocab_size))

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        return split(self._tokenizer, texts)

    def fill(
        self, trees: Sequence[Tree], pieces: Sequence[Pieces], chosen: Sequence[Element]
    ) -> list[list[str] | None]:
        """Return what to write into the places of one element of each text, in their order.

        None where the best ``TRIES`` fillings hold no legal name that is not taken, or nothing but the statement.
        """
        gaps = [_gap(own, element) for own, element in zip(pieces, chosen, strict=True)]
        filled: list[list[str] | None] = []
        for tree, element, gap, choices in zip(trees, chosen, gaps, self._rank(gaps), strict=True):
            if element.kind == "identifier":
                name = self._name(tree, choices)
                filled.append(None if name is None else [name] * len(element.places))
            else:
                filled.append(self._statement(tree.text, element, [len(group) for group in gap.slots], choices))
        return filled

    def _name(self, tree: Tree, choices: Sequence[Ranked]) -> str | None:
        taken = {identifier.name for identifier in tree.identifiers()}
        for ids in islice(best_first(choices), TRIES):
            name = self._decode(ids)
            if legal_name(name, tree.language) and name not in taken:
                return name
        return None

    def _statement(
        self, text: str, element: Element, lengths: Sequence[int], choices: Sequence[Ranked]
    ) -> list[str] | None:
        old = [text[start:end] for start, end in element.places]
        for ids in islice(best_first(choices), TRIES):
            left = iter(ids)
            new = [self._decode([next(left) for _ in range(length)]) for length in lengths]
            if new != old:
                return new
        return None

    def _decode(self, ids: Sequence[int]) -> str:
        return " ".join(str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)).split())

    def _rank(self, gaps: Sequence[Gap]) -> list[list[Ranked]]:
        found: dict[int, list[Ranked]] = {}

        def run(batch: Sequence[int]) -> None:
            found.update(zip(batch, self._rank_batch([gaps[index] for index in batch]), strict=True))

        for batch in bucketed([len(gap.ids) for gap in gaps], TOKENS_PER_BATCH[self._model.device.type]):
            halving(batch, run)
        return [found[index] for index in range(len(gaps))]

    @torch.inference_mode()
    def _rank_batch(self, gaps: Sequence[Gap]) -> list[list[Ranked]]:
        """The best sub-tokens of every slot; a text longer than the model is read in consecutive windows."""
        tokenizer, device = self._tokenizer, self._model.device
        windows: list[list[int]] = []
        places: dict[tuple[int, int], tuple[int, int]] = {}
        for number, gap in enumerate(gaps):
            ids = list(gap.ids)
            for position in gap.masked:
                ids[position] = tokenizer.mask_token_id
            for start in sorted({position // self._room * self._room for position in gap.masked}):
                for position in range(start, min(start + self._room, len(ids))):
                    places[number, position] = len(windows), position - start + 1
                windows.append([tokenizer.bos_token_id, *ids[start : start + self._room], tokenizer.eos_token_id])
        rows, mask = pad(windows, tokenizer.pad_token_id, device)
        hidden = self._model.base_model(input_ids=rows, attention_mask=mask).last_hidden_state
        # the vocabulary is scored at the masks only
        wanted = [places[number, at] for number, gap in enumerate(gaps) for slot in gap.flat for at in slot.positions]
        window, column = torch.tensor(wanted, device=device).unbind(1)
        log_p = self._model.lm_head(hidden[window, column]).float().log_softmax(-1).cpu()
        means = (
            part.mean(0) for part in torch.split(log_p, [len(slot.positions) for gap in gaps for slot in gap.flat])
        )
        return [[self._best_of(next(means), slot.role) for slot in gap.flat] for gap in gaps]

    def _best_of(self, mean: Tensor, role: Role) -> Ranked:
        allowed = self._allowed[role]
        values, places = mean[allowed].topk(min(WIDTH[role], len(allowed)))
        return list(zip(allowed[places].tolist(), values.tolist(), strict=True))


def _gap(pieces: Pieces, element: Element) -> Gap:
    ranges = [list(range(*pieces.covered(start, end))) for start, end in element.places]
    masked = sorted({position for places in ranges for position in places})
    if element.kind == "statement":
        return Gap(pieces.ids, masked, [[Slot([position], "any") for position in places] for places in ranges])
    # in raw text a name may have other sub-tokens after a space; the most frequent number of them decides
    length = Counter(map(len, ranges)).most_common(1)[0][0]
    alike = [places for places in ranges if len(places) == length]
    name = [Slot([places[at] for places in alike], "inner" if at else "first") for at in range(length)]
    return Gap(pieces.ids, masked, [name])


def _allowed(tokenizer: Any, size: int) -> dict[Role, Tensor]:
    """Ids that may stand first in a name, further in it, and anywhere: no special token, no mark, no line end."""
    banned = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    found: dict[Role, list[int]] = {"first": [], "inner": [], "any": []}
    texts = tokenizer.batch_decode([[index] for index in range(size)], clean_up_tokenization_spaces=False)
    for index, text in enumerate(texts):
        if index in banned or not text.strip() or "\n" in text or "\ufffd" in text:
            continue
        found["any"].append(index)
        if text.strip().isascii() and text.strip().isidentifier():
            found["first"].append(index)
        if text.isascii() and f"_{text}".isidentifier():
            found["inner"].append(index)
    return {role: torch.tensor(ids) for role, ids in found.items()}


def best_first(choices: Sequence[Ranked]) -> Iterator[list[int]]:
    """Yield one id per slot, the combinations with the highest sum of log-probabilities first."""
    first = (0,) * len(choices)
    heap = [(-sum(ranked[0][1] for ranked in choices), first)]
    while heap:
        cost, picks = heapq.heappop(heap)
        yield [ranked[pick][0] for ranked, pick in zip(choices, picks, strict=True)]
        # each combination has one parent: the one with its last raised pick a step lower
        last = max((place for place, pick in enumerate(picks) if pick), default=0)
        for place in range(last, len(picks)):
            pick = picks[place] + 1
            if pick < len(choices[place]):
                step = choices[place][pick - 1][1] - choices[place][pick][1]
                heapq.heappush(heap, (cost + step, (*picks[:place], pick, *picks[place + 1 :])))
