"""Fill masked spans with the most likely sub-tokens of a masked language model (CodePurify, section III-B).

All masks are filled in parallel. An identifier gets one name at all occurrences: each of its sub-tokens is chosen by
the mean log-probability over the occurrences. A name that is illegal, a keyword, taken in the text or the suspected one
is skipped in favor of the next best. A statement is never filled with its own text.
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

from codebackdoor.defenses.inputs.token_spans import TokenSpans, split
from codebackdoor.defenses.suspicion.masking import Element
from codebackdoor.syntax import Tree, legal_name
from codebackdoor.victims.batching import computed, pad
from codebackdoor.victims.inference import TOKENS

#: Fillings of one element that are tried, best first, until one is legal.
TRIES = 4096

SlotRole = Literal["first", "inner", "any"]
#: How many of the best sub-tokens of a slot are kept; a name needs more, since it must not be a keyword or taken.
WIDTH: dict[SlotRole, int] = {"first": 512, "inner": 512, "any": 16}

#: Sub-token ids and their mean log-probabilities, best first.
Ranked = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class MaskSlot:
    """One sub-token to choose, by the mean log-probability at ``positions`` of the whole text."""

    positions: list[int]
    role: SlotRole


@dataclass(frozen=True, slots=True)
class Gap:
    """The masked sub-tokens of one text, and the ones to choose: once for a name, one by one for a statement."""

    ids: list[int]
    masked: list[int]
    slots: list[list[MaskSlot]]

    @property
    def flat(self) -> list[MaskSlot]:
        return [slot for group in self.slots for slot in group]


class Infiller:
    """A masked language model of code (RoBERTa class, eval mode) with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        positions = int(model.config.max_position_embeddings) - int(model.config.pad_token_id) - 1
        #: Sub-tokens of one window, without special tokens.
        self._room = min(positions, int(tokenizer.model_max_length)) - 2
        self._allowed = _allowed(tokenizer, int(model.config.vocab_size))

    def tokens(self, texts: Sequence[str]) -> list[TokenSpans]:
        return split(self._tokenizer, texts)

    def fill(
        self, trees: Sequence[Tree], tokens: Sequence[TokenSpans], suspects: Sequence[Element]
    ) -> list[list[str] | None]:
        """Return the texts for the masked spans of one element of each text, in order.

        None if the best ``TRIES`` fillings contain no legal name that is free, or only the statement itself.
        """
        gaps = [_gap(text_tokens, element) for text_tokens, element in zip(tokens, suspects, strict=True)]
        filled: list[list[str] | None] = []
        for tree, element, gap, choices in zip(trees, suspects, gaps, self._rank(gaps), strict=True):
            if element.kind == "identifier":
                name = self._name(tree, choices)
                filled.append(None if name is None else [name] * len(element.masked))
            else:
                filled.append(self._statement(tree.text, element, [len(group) for group in gap.slots], choices))
        return filled

    def _name(self, tree: Tree, choices: Sequence[Ranked]) -> str | None:
        used_names = {identifier.name for identifier in tree.identifiers()}
        for ids in islice(best_first(choices), TRIES):
            name = self._decode(ids)
            if legal_name(name, tree.language) and name not in used_names:
                return name
        return None

    def _statement(
        self, text: str, element: Element, lengths: Sequence[int], choices: Sequence[Ranked]
    ) -> list[str] | None:
        old = [text[start:end] for start, end in element.masked]
        for ids in islice(best_first(choices), TRIES):
            remaining = iter(ids)
            new = [self._decode([next(remaining) for _ in range(length)]) for length in lengths]
            if new != old:
                return new
        return None

    def _decode(self, ids: Sequence[int]) -> str:
        return " ".join(str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)).split())

    def _rank(self, gaps: Sequence[Gap]) -> list[list[Ranked]]:
        return computed(
            [len(gap.ids) for gap in gaps],
            TOKENS[self._model.device.type],
            lambda batch: self._rank_batch([gaps[index] for index in batch]),
        )

    @torch.inference_mode()
    def _rank_batch(self, gaps: Sequence[Gap]) -> list[list[Ranked]]:
        """The best sub-tokens of every slot; a text longer than the model's input is read in consecutive windows."""
        tokenizer, device = self._tokenizer, self._model.device
        windows: list[list[int]] = []
        columns: dict[tuple[int, int], tuple[int, int]] = {}
        for number, gap in enumerate(gaps):
            ids = list(gap.ids)
            for position in gap.masked:
                ids[position] = tokenizer.mask_token_id
            for start in sorted({position // self._room * self._room for position in gap.masked}):
                for position in range(start, min(start + self._room, len(ids))):
                    columns[number, position] = len(windows), position - start + 1
                windows.append([tokenizer.bos_token_id, *ids[start : start + self._room], tokenizer.eos_token_id])
        rows, mask = pad(windows, tokenizer.pad_token_id, device)
        hidden = self._model.base_model(input_ids=rows, attention_mask=mask).last_hidden_state
        # the vocabulary is scored at the masks only
        masks = [columns[number, at] for number, gap in enumerate(gaps) for slot in gap.flat for at in slot.positions]
        window, column = torch.tensor(masks, device=device).unbind(1)
        log_p = self._model.lm_head(hidden[window, column]).float().log_softmax(-1).cpu()
        means = (
            part.mean(0) for part in torch.split(log_p, [len(slot.positions) for gap in gaps for slot in gap.flat])
        )
        return [[self._best_of(next(means), slot.role) for slot in gap.flat] for gap in gaps]

    def _best_of(self, mean: Tensor, role: SlotRole) -> Ranked:
        allowed = self._allowed[role]
        values, indices = mean[allowed].topk(min(WIDTH[role], len(allowed)))
        return list(zip(allowed[indices].tolist(), values.tolist(), strict=True))


def _gap(tokens: TokenSpans, element: Element) -> Gap:
    ranges = [list(range(*tokens.covered(start, end))) for start, end in element.masked]
    masked = sorted({position for positions in ranges for position in positions})
    if element.kind == "statement":
        slots = [[MaskSlot([position], "any") for position in positions] for positions in ranges]
        return Gap(tokens.ids, masked, slots)
    # in raw text a name may have other sub-tokens after a space; the most frequent number of them decides
    length = Counter(map(len, ranges)).most_common(1)[0][0]
    same_length = [positions for positions in ranges if len(positions) == length]
    name = [MaskSlot([positions[at] for positions in same_length], "inner" if at else "first") for at in range(length)]
    return Gap(tokens.ids, masked, [name])


def _allowed(tokenizer: Any, size: int) -> dict[SlotRole, Tensor]:
    """Ids that can be first in a name, later in a name, and anywhere: no special tokens, marks or line ends."""
    banned = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    ids: dict[SlotRole, list[int]] = {"first": [], "inner": [], "any": []}
    texts = tokenizer.batch_decode([[index] for index in range(size)], clean_up_tokenization_spaces=False)
    for index, text in enumerate(texts):
        if index in banned or not text.strip() or "\n" in text or "\ufffd" in text:
            continue
        ids["any"].append(index)
        if text.strip().isascii() and text.strip().isidentifier():
            ids["first"].append(index)
        if text.isascii() and f"_{text}".isidentifier():
            ids["inner"].append(index)
    return {role: torch.tensor(role_ids) for role, role_ids in ids.items()}


def best_first(choices: Sequence[Ranked]) -> Iterator[list[int]]:
    """Yield one id per slot, the combinations with the highest sum of log-probabilities first."""
    first = (0,) * len(choices)
    heap = [(-sum(ranked[0][1] for ranked in choices), first)]
    while heap:
        cost, picks = heapq.heappop(heap)
        yield [ranked[pick][0] for ranked, pick in zip(choices, picks, strict=True)]
        # each combination has one parent: the same picks with the last nonzero one lowered by one
        last = max((slot for slot, pick in enumerate(picks) if pick), default=0)
        for slot in range(last, len(picks)):
            pick = picks[slot] + 1
            if pick < len(choices[slot]):
                step = choices[slot][pick - 1][1] - choices[slot][pick][1]
                heapq.heappush(heap, (cost + step, (*picks[:slot], pick, *picks[slot + 1 :])))
