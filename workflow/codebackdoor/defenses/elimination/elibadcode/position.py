"""Phase (b): where in each sample the trigger stands (EliBadCode, section 4.3), in characters and in sub-tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from codebackdoor import syntax
from codebackdoor.defenses.elimination.elibadcode.vocabulary import WORD_INITIAL
from codebackdoor.errors import UserError
from codebackdoor.types import DefenderView, Example
from codebackdoor.victims.inference import class_logits
from codebackdoor.victims.victim import Encoded, Victim


@dataclass(frozen=True, slots=True)
class Place:
    """An identifier of one sample: the character spans that the trigger replaces, in order."""

    name: str
    spans: tuple[tuple[int, int], ...]

    def replace(self, text: str, new: str) -> str:
        return syntax.replace(text, [(start, end, new) for start, end in self.spans]).text


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sample's token ids with holes where the trigger goes; it is cut once and filled many times.

    ``segments`` are the ids around the holes (one more than holes), ``spaced`` says for each hole whether its first
    piece begins a word, ``ending`` are the special tokens at the end and ``limit`` is the longest input.
    """

    segments: tuple[tuple[int, ...], ...]
    spaced: tuple[bool, ...]
    ending: tuple[int, ...]
    limit: int

    def fill(self, spaced: Sequence[int], plain: Sequence[int]) -> list[int]:
        """Return the sample's ids with one trigger, given as rendered after a space and elsewhere."""
        ids = list(self.segments[0])
        for after_space, segment in zip(self.spaced, self.segments[1:], strict=True):
            ids.extend(spaced if after_space else plain)
            ids.extend(segment)
        return [*ids[: self.limit - len(self.ending)], *self.ending]

    def slots(self, length: int) -> list[tuple[int, int, bool]]:
        """Return (position, slot, spaced) of each sub-token of a trigger of ``length`` that fits into the input."""
        found: list[tuple[int, int, bool]] = []
        start = 0
        for after_space, segment in zip(self.spaced, self.segments, strict=False):
            start += len(segment)
            found.extend((start + slot, slot, after_space) for slot in range(length))
            start += length
        room = self.limit - len(self.ending)
        return [entry for entry in found if entry[0] < room]


def cut(victim: Victim, text: str, encoded: Encoded, place: Place) -> Prompt | None:
    """Cut the place's sub-tokens out of an encoded text; ``None`` where none of them is inside the victim's input.

    Occurrences behind the truncation are left out. Characters that share a sub-token with the identifier are kept,
    encoded on their own.
    """
    tokenizer = victim.tokenizer
    ids, offsets = encoded.ids, encoded.offsets
    end = len(ids)
    while end and offsets[end - 1] == (0, 0):
        end -= 1
    segments: list[tuple[int, ...]] = []
    spaced: list[bool] = []
    done, left_over = 0, ""
    for start, stop in place.spans:
        covered = [index for index in range(done, end) if offsets[index][0] < stop and offsets[index][1] > start]
        if not covered or offsets[covered[-1]][1] < stop:
            break
        first, last = covered[0], covered[-1]
        begins_word = str(tokenizer.convert_ids_to_tokens(ids[first])).startswith(WORD_INITIAL)
        before = text[offsets[first][0] : start].lstrip(" ")
        segments.append((*_bare(tokenizer, left_over), *ids[done:first], *_bare(tokenizer, before, begins_word)))
        spaced.append(begins_word and not before)
        left_over = text[stop : offsets[last][1]]
        done = last + 1
    if not spaced:
        return None
    segments.append((*_bare(tokenizer, left_over), *ids[done:end]))
    return Prompt(tuple(segments), tuple(spaced), tuple(ids[end:]), victim.max_length)


def _bare(tokenizer: PreTrainedTokenizerFast, text: str, begins_word: bool = False) -> list[int]:
    if not text:
        return []
    prefixed = f" {text}" if begins_word else text
    return list(tokenizer.backend_tokenizer.encode(prefixed, add_special_tokens=False).ids)


def candidates(tree: syntax.Tree, occurrences: str) -> list[Place]:
    """The places of a sample: each renameable identifier, or each of its occurrences (``occurrences: one``)."""
    names = [identifier for identifier in tree.identifiers() if identifier.renameable]
    if occurrences == "all":
        return [Place(found.name, found.spans) for found in names]
    return [Place(found.name, (span,)) for found in names for span in found.spans]


def function_name(tree: syntax.Tree, occurrences: str) -> Place | None:
    """The name of the function that the sample defines: where it is defined, or everywhere."""
    found = tree.function_name()
    if found is None:
        return None
    return Place(found.name, found.spans if occurrences == "all" else found.spans[:1])


def mask_substitute(tokenizer: PreTrainedTokenizerFast) -> tuple[str, int]:
    """What stands for a masked identifier: ``<unk>`` as in the paper, ``<mask>`` for a tokenizer without one."""
    for token, index in (
        (tokenizer.unk_token, tokenizer.unk_token_id),
        (tokenizer.mask_token, tokenizer.mask_token_id),
    ):
        if index is not None:
            return str(token), int(index)
    raise UserError("EliBadCode masks identifiers, but the victim's tokenizer has neither an unknown nor a mask token")


def prompts(view: DefenderView, examples: Sequence[Example], position: str, occurrences: str) -> list[Prompt | None]:
    """Cut every sample at its place; ``None`` where it has no such identifier within the victim's input."""
    found = places(view, examples, position, occurrences)
    texts = [example.code for example in examples]
    return [
        cut(view.victim, text, encoded, place) if place else None
        for text, encoded, place in zip(texts, view.victim.encode(texts), found, strict=True)
    ]


def places(view: DefenderView, examples: Sequence[Example], position: str, occurrences: str) -> list[Place | None]:
    """The place of each sample: its function's name, or the identifier whose masking changes the loss least."""
    trees = [syntax.parse(example.code, view.language, view.text_form) for example in examples]
    if position == "function_name":
        return [function_name(tree, occurrences) for tree in trees]
    options = [candidates(tree, occurrences) for tree in trees]
    return [
        min(found, key=lambda pair: pair[1])[0] if found else None
        for found in sensitivities(view.victim, examples, options)
    ]


def sensitivities(
    victim: Victim, examples: Sequence[Example], options: Sequence[Sequence[Place]]
) -> list[list[tuple[Place, float]]]:
    """For each sample, |loss of the true label with the place masked - without| of every place inside the input.

    The victim reads all samples and all masks in one stream of batches.
    """
    _, substitute = mask_substitute(victim.tokenizer)
    rows: list[list[int]] = []
    kept: list[list[Place]] = []
    for example, encoded, own in zip(
        examples, victim.encode([example.code for example in examples]), options, strict=True
    ):
        cuts = [(place, cut(victim, example.code, encoded, place)) for place in own]
        kept.append([place for place, prompt in cuts if prompt])
        rows.append(encoded.ids)
        rows.extend(prompt.fill([substitute], [substitute]) for _, prompt in cuts if prompt)
    if not rows:
        return []
    losses = _true_label_losses(victim, rows, examples, kept)
    found: list[list[tuple[Place, float]]] = []
    start = 0
    for own in kept:
        changes = (losses[start + 1 : start + 1 + len(own)] - losses[start]).abs().tolist()
        found.append(list(zip(own, changes, strict=True)))
        start += 1 + len(own)
    return found


def _true_label_losses(
    victim: Victim, rows: Sequence[Sequence[int]], examples: Sequence[Example], kept: Sequence[Sequence[Place]]
) -> Tensor:
    labels = [example.label for example, own in zip(examples, kept, strict=True) for _ in range(1 + len(own))]
    logits = class_logits(victim, rows)
    return torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="none")
