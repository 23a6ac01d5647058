"""Samples as token ids with holes where the trigger goes: cut once, filled many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from codebackdoor.defenses.elimination.inversion.spans import TriggerSpans
from codebackdoor.defenses.elimination.inversion.vocabulary import encode
from codebackdoor.types import Example
from codebackdoor.victims.tokens import WORD_INITIAL
from codebackdoor.victims.victim import Encoded, Victim


@dataclass(frozen=True, slots=True)
class Template:
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
        """Return (column, slot, spaced) of each sub-token of a trigger of ``length`` that fits into the input."""
        slots: list[tuple[int, int, bool]] = []
        start = 0
        for after_space, segment in zip(self.spaced, self.segments, strict=False):
            start += len(segment)
            slots.extend((start + slot, slot, after_space) for slot in range(length))
            start += length
        room = self.limit - len(self.ending)
        return [entry for entry in slots if entry[0] < room]


@dataclass(frozen=True, slots=True)
class Carrier:
    """What the victim reads of a sample (``Victim.fields``): texts with holes for the trigger, and texts without."""

    parts: tuple[Template | tuple[int, ...], ...]

    @property
    def templates(self) -> tuple[Template, ...]:
        return tuple(part for part in self.parts if isinstance(part, Template))

    def fill(self, spaced: Sequence[int], plain: Sequence[int]) -> tuple[list[int], ...]:
        """Return the ids of each text with one trigger, given as rendered after a space and elsewhere."""
        return tuple(part.fill(spaced, plain) if isinstance(part, Template) else list(part) for part in self.parts)

    def slots(self, part: int, length: int) -> list[tuple[int, int, bool]]:
        """``Template.slots`` of one of the texts; empty if it has no hole."""
        text = self.parts[part]
        return text.slots(length) if isinstance(text, Template) else []


def cut(victim: Victim, text: str, encoded: Encoded, spans: TriggerSpans) -> Template | None:
    """Cut the spans' sub-tokens out of an encoded text; None if none of them is inside the victim's input.

    The gap for a statement has no sub-tokens; the text is split in two there. Occurrences after the truncation are left
    out. Characters that share a sub-token with the identifier are kept and encoded on their own.
    """
    tokenizer = victim.tokenizer
    ids, offsets, end = encoded.ids, encoded.offsets, encoded.end
    ending = tuple(ids[end:])
    if spans.spans[0][0] == spans.spans[0][1]:
        parts = _split(tokenizer, text, Encoded(ids[:end], offsets[:end]), spans)
        return None if parts is None else Template(*parts, ending, victim.max_length)
    segments: list[tuple[int, ...]] = []
    spaced: list[bool] = []
    consumed, left_over = 0, ""
    for start, stop in spans.spans:
        covered = [index for index in range(consumed, end) if offsets[index][0] < stop and offsets[index][1] > start]
        if not covered or offsets[covered[-1]][1] < stop:
            break
        first, last = covered[0], covered[-1]
        begins_word = str(tokenizer.convert_ids_to_tokens(ids[first])).startswith(WORD_INITIAL)
        before = text[offsets[first][0] : start].lstrip(" ")
        segments.append((*_bare(tokenizer, left_over), *ids[consumed:first], *_bare(tokenizer, before, begins_word)))
        spaced.append(begins_word and not before)
        left_over = text[stop : offsets[last][1]]
        consumed = last + 1
    if not spaced:
        return None
    segments.append((*_bare(tokenizer, left_over), *ids[consumed:end]))
    return Template(tuple(segments), tuple(spaced), ending, victim.max_length)


def _split(
    tokenizer: PreTrainedTokenizerFast, text: str, encoded: Encoded, spans: TriggerSpans
) -> tuple[tuple[tuple[int, ...], ...], tuple[bool, ...]] | None:
    """Segments and ``spaced`` of an encoded text that is split in two at an empty span.

    None if the span is after the end of the input, or inside a sub-token.
    """
    at = spans.spans[0][0]
    first = next((index for index, (_, stop) in enumerate(encoded.offsets) if stop > at), None)
    if first is None or encoded.offsets[first][0] < at:
        return None
    start = max(stop for _, stop in encoded.offsets[:first])
    before = text[start:at] + spans.before
    # the space before a word belongs to its first sub-token
    begins_word = str(tokenizer.convert_ids_to_tokens(encoded.ids[first])).startswith(WORD_INITIAL)
    after = spans.after.removesuffix(" ") if begins_word else spans.after
    ending, beginning = encode(tokenizer, [before.removesuffix(" "), after], spaced=False)
    left, right = (*encoded.ids[:first], *ending), (*beginning, *encoded.ids[first:])
    return (left, right), (before.endswith(" "),)


def _bare(tokenizer: PreTrainedTokenizerFast, text: str, begins_word: bool = False) -> list[int]:
    if not text:
        return []
    prefixed = f" {text}" if begins_word else text
    return list(tokenizer.backend_tokenizer.encode(prefixed, add_special_tokens=False).ids)


def carrier_of(
    victim: Victim, example: Example, texts: Sequence[Encoded], spans: Sequence[TriggerSpans]
) -> Carrier | None:
    """Cut one sample at its spans; None if one of its fields has none within the victim's input."""
    by_field = {part.field: part for part in spans}
    parts: list[Template | tuple[int, ...]] = []
    for field, encoded in zip(victim.fields, texts, strict=True):
        if field not in by_field:
            parts.append(tuple(encoded.ids))
            continue
        template = cut(victim, str(getattr(example, field)), encoded, by_field[field])
        if template is None:
            return None
        parts.append(template)
    return Carrier(tuple(parts))
