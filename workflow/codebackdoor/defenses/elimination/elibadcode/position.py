"""Phase (b): where in each sample the trigger stands (EliBadCode, section 4.3), in characters and in sub-tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from codebackdoor import syntax
from codebackdoor.defenses.elimination.elibadcode.vocabulary import encode
from codebackdoor.defenses.views import DefenderView
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import CodeField, Example, Pair
from codebackdoor.victims.inference import answers
from codebackdoor.victims.tokens import WORD_INITIAL, stand_in
from codebackdoor.victims.victim import Encoded, Victim


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trigger goes in one field of a sample: the character spans that it replaces, in order.

    That is an identifier; or a place of no width for a first statement, of which ``before`` and ``after`` are what
    separates it from its neighbors.
    """

    name: str
    spans: tuple[tuple[int, int], ...]
    field: CodeField = "code"
    before: str = ""
    after: str = ""

    def replace(self, text: str, new: str) -> str:
        new = f"{self.before}{new}{self.after}"
        return syntax.replace(text, [(start, end, new) for start, end in self.spans]).text


#: What stands for a masked identifier: ``<unk>`` as in the paper (section 4.3).
MASK: Literal["unknown"] = "unknown"
#: The place of the trigger in each field of a sample that gets one.
Places = tuple[Place, ...]


def put(example: Example, places: Places, trigger: str) -> Example:
    """The example with the trigger at its places."""
    texts = {place.field: place.replace(str(getattr(example, place.field)), trigger) for place in places}
    return replace(example, code=texts.get("code", example.code), code_b=texts.get("code_b", example.code_b))


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


@dataclass(frozen=True, slots=True)
class Carrier:
    """What the victim reads of a sample (``Victim.fields``): texts with holes for the trigger, and texts without."""

    parts: tuple[Prompt | tuple[int, ...], ...]

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return tuple(part for part in self.parts if isinstance(part, Prompt))

    def fill(self, spaced: Sequence[int], plain: Sequence[int]) -> tuple[list[int], ...]:
        """Return the ids of each text with one trigger, given as rendered after a space and elsewhere."""
        return tuple(part.fill(spaced, plain) if isinstance(part, Prompt) else list(part) for part in self.parts)

    def slots(self, part: int, length: int) -> list[tuple[int, int, bool]]:
        """``Prompt.slots`` of one of the texts; none where it has no hole."""
        own = self.parts[part]
        return own.slots(length) if isinstance(own, Prompt) else []


def cut(victim: Victim, text: str, encoded: Encoded, place: Place) -> Prompt | None:
    """Cut the place's sub-tokens out of an encoded text; ``None`` where none of them is inside the victim's input.

    A statement's place has none, and the text is cut in two there. Occurrences behind the truncation are left out.
    Characters that share a sub-token with the identifier are kept, encoded on their own.
    """
    tokenizer = victim.tokenizer
    ids, offsets = encoded.ids, encoded.offsets
    end = len(ids)
    while end and offsets[end - 1] == (0, 0):
        end -= 1
    ending = tuple(ids[end:])
    if place.spans[0][0] == place.spans[0][1]:
        parted = _parted(tokenizer, text, Encoded(ids[:end], offsets[:end]), place)
        return None if parted is None else Prompt(*parted, ending, victim.max_length)
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
    return Prompt(tuple(segments), tuple(spaced), ending, victim.max_length)


def _parted(
    tokenizer: PreTrainedTokenizerFast, text: str, encoded: Encoded, place: Place
) -> tuple[tuple[tuple[int, ...], ...], tuple[bool, ...]] | None:
    """Segments and ``spaced`` of an encoded text that is cut in two at a place of no width.

    ``None`` where the place is behind the input, or inside of a sub-token.
    """
    at = place.spans[0][0]
    first = next((index for index, (_, stop) in enumerate(encoded.offsets) if stop > at), None)
    if first is None or encoded.offsets[first][0] < at:
        return None
    done = max(stop for _, stop in encoded.offsets[:first])
    before = text[done:at] + place.before
    # the space before a word belongs to its first sub-token
    begins_word = str(tokenizer.convert_ids_to_tokens(encoded.ids[first])).startswith(WORD_INITIAL)
    after = place.after.removesuffix(" ") if begins_word else place.after
    ending, beginning = encode(tokenizer, [before.removesuffix(" "), after], spaced=False)
    left, right = (*encoded.ids[:first], *ending), (*beginning, *encoded.ids[first:])
    return (left, right), (before.endswith(" "),)


def _bare(tokenizer: PreTrainedTokenizerFast, text: str, begins_word: bool = False) -> list[int]:
    if not text:
        return []
    prefixed = f" {text}" if begins_word else text
    return list(tokenizer.backend_tokenizer.encode(prefixed, add_special_tokens=False).ids)


def candidates(tree: syntax.Tree, occurrences: str, field: CodeField = "code") -> list[Place]:
    """The places of a text: each renameable identifier, or each of its occurrences (``occurrences: one``)."""
    names = [identifier for identifier in tree.identifiers() if identifier.renameable]
    if occurrences == "all":
        return [Place(found.name, found.spans, field) for found in names]
    return [Place(found.name, (span,), field) for found in names for span in found.spans]


def function_name(tree: syntax.Tree, occurrences: str, field: CodeField = "code") -> Place | None:
    """The name of the function that the text defines: where it is defined, or everywhere."""
    found = tree.function_name()
    if found is None:
        return None
    return Place(found.name, found.spans if occurrences == "all" else found.spans[:1], field)


def statement(tree: syntax.Tree, field: CodeField = "code") -> Place | None:
    """The place of a first statement in the body of the function that the text defines."""
    gap = syntax.first_place(tree)
    if gap is None:
        return None
    at, before, after = gap
    return Place("", ((at, at),), field, before, after)


def trigger_fields(victim: Victim, pair: Pair) -> tuple[CodeField, ...]:
    """The fields that get the trigger: code; of a pair both functions, or the one that ``pair`` names."""
    if victim.head != "pair":
        return ("code",)
    return ("code", "code_b") if pair == "both" else (pair,)


def carriers(
    view: DefenderView, examples: Sequence[Example], position: str, occurrences: str, pair: Pair
) -> list[Carrier | None]:
    """Cut every sample at its places; ``None`` where one of its fields has none within the victim's input."""
    found = places(view, examples, position, occurrences, pair)
    read = view.victim.read(examples)
    return [
        _carrier(view.victim, example, texts, own) if own else None
        for example, texts, own in zip(examples, read, found, strict=True)
    ]


def _carrier(victim: Victim, example: Example, texts: Sequence[Encoded], places: Places) -> Carrier | None:
    by_field = {place.field: place for place in places}
    parts: list[Prompt | tuple[int, ...]] = []
    for field, encoded in zip(victim.fields, texts, strict=True):
        if field not in by_field:
            parts.append(tuple(encoded.ids))
            continue
        prompt = cut(victim, str(getattr(example, field)), encoded, by_field[field])
        if prompt is None:
            return None
        parts.append(prompt)
    return Carrier(tuple(parts))


def seeded(place: str, seed: int) -> str:
    """A place of ``settings.places`` as ``places`` takes it: one at random is another for each seed."""
    return f"random {seed}" if place == "random" else place


def places(
    view: DefenderView, examples: Sequence[Example], position: str, occurrences: str, pair: Pair
) -> list[Places | None]:
    """The places of each sample, one in each field: its function's name, the first statement of its body, one at
    random, or by sensitivity.

    ``least_sensitive`` is the identifier whose masking changes the loss least; ``rank N`` the one behind N others, and
    counted from the most sensitive one where N is negative (section 4.3, Figure 5). ``random N`` is the one that seed N
    draws. None where a field has none.
    """
    found: list[list[Place | None]] = [[] for _ in examples]
    for field in trigger_fields(view.victim, pair):
        trees = [syntax.parse(str(getattr(example, field)), view.language, view.text_form) for example in examples]
        if position == "function_name":
            own = [function_name(tree, occurrences, field) for tree in trees]
        elif position == "statement":
            own = [statement(tree, field) for tree in trees]
        else:
            options = [candidates(tree, occurrences, field) for tree in trees]
            if position.startswith("random "):
                read = (inside(view.victim, *one) for one in zip(examples, options, strict=True))
                own = [_any(one, int(position.removeprefix("random "))) for one in read]
            else:
                ranked = sensitivities(view.victim, examples, options)
                own = [_ranked(changes, position) for changes in ranked]
        for places_, place in zip(found, own, strict=True):
            places_.append(place)
    return [tuple(place for place in own if place) if all(own) else None for own in found]


def _any(options: Sequence[Place], seed: int) -> Place | None:
    """One of the places, of the same seed the same one each time."""
    if not options:
        return None
    generator = numpy_generator(seed, "place", *(f"{one.name} {one.spans}" for one in options))
    return options[int(generator.integers(len(options)))]


def _ranked(changes: Sequence[tuple[Place, float]], position: str) -> Place | None:
    rank = 0 if position == "least_sensitive" else int(position.removeprefix("rank "))
    if not -len(changes) <= rank < len(changes):
        return None
    return sorted(changes, key=lambda pair: pair[1])[rank][0]


def inside(victim: Victim, example: Example, options: Sequence[Place]) -> list[Place]:
    """The places that the victim's input reaches."""
    texts = dict(zip(victim.fields, victim.read([example])[0], strict=True))
    return [one for one in options if cut(victim, str(getattr(example, one.field)), texts[one.field], one)]


def sensitivities(
    victim: Victim, examples: Sequence[Example], options: Sequence[Sequence[Place]]
) -> list[list[tuple[Place, float]]]:
    """For each sample, |its loss with the place masked - without| of every place inside the input (``own_losses``).

    The victim reads all samples and all masks in one stream of batches.
    """
    _, substitute = stand_in(victim.tokenizer, MASK)
    rows: list[tuple[list[int], ...]] = []
    owners: list[Example] = []
    kept: list[list[Place]] = []
    for example, texts, own in zip(examples, victim.read(examples), options, strict=True):
        ids = tuple(text.ids for text in texts)
        masked = [(place, _carrier(victim, example, texts, (place,))) for place in own]
        kept.append([place for place, carrier in masked if carrier])
        rows += [ids, *(carrier.fill([substitute], [substitute]) for _, carrier in masked if carrier)]
        owners += [example] * (1 + len(kept[-1]))
    if not rows:
        return []
    losses = own_losses(victim, rows, owners)
    found: list[list[tuple[Place, float]]] = []
    start = 0
    for own in kept:
        changes = (losses[start + 1 : start + 1 + len(own)] - losses[start]).abs().tolist()
        found.append(list(zip(own, changes, strict=True)))
        start += 1 + len(own)
    return found


def own_losses(victim: Victim, rows: Sequence[Sequence[Sequence[int]]], examples: Sequence[Example]) -> Tensor:
    """Loss of each row of texts, [N], as if they were their example: the cross entropy of its label in nats, or of a
    dual encoder the squared difference of the cosine to 1, whatever it ranks by: an inner product has no such bound."""
    if victim.head == "retrieval":
        return (1 - answers(replace(victim, similarity="cosine"), rows)) ** 2
    found = answers(victim, rows)
    labels = torch.tensor([example.label for example in examples])
    return torch.nn.functional.cross_entropy(found, labels, reduction="none")
