"""The elements of a text that are masked one at a time, and the victim's input with one of them masked.

CodePurify, section III-A1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codebackdoor.defenses.purification.pieces import Pieces
from codebackdoor.syntax import Tree
from codebackdoor.victims.victim import Encoded

Kind = Literal["identifier", "statement"]


@dataclass(frozen=True, slots=True)
class Element:
    """An identifier with all its occurrences, or a statement with its tokens but for keywords and layout marks.

    ``span`` is where the element stands (an identifier: its first occurrence), ``places`` what is masked: disjoint
    character spans of the text, in order.
    """

    kind: Kind
    text: str
    span: tuple[int, int]
    places: tuple[tuple[int, int], ...]


def elements(tree: Tree, identifiers: bool, statements: bool) -> list[Element]:
    """Distinct identifiers (by name, whatever their roles), then statements, nested ones too.

    A statement of keywords alone (``pass``) has no masked version and is left out.
    """
    found: list[Element] = []
    if identifiers:
        places: dict[str, list[tuple[int, int]]] = {}
        for identifier in tree.identifiers():
            places.setdefault(identifier.name, []).extend(identifier.spans)
        for name, spans in places.items():
            found.append(Element("identifier", name, min(spans), tuple(sorted(spans))))
    if statements:
        for statement in tree.statements():
            start, end = statement.span
            tokens = [token for token in tree.tokens_in(start, end) if token.kind not in ("keyword", "mark")]
            if tokens:
                masked = tuple((token.start, token.end) for token in tokens)
                found.append(Element("statement", tree.text[start:end], (start, end), masked))
    return found


@dataclass(frozen=True, slots=True)
class Framed:
    """A victim's input: the text's sub-tokens (as many as truncation left) between special tokens."""

    opening: list[int]
    body: Pieces
    closing: list[int]


def framed(encoded: Encoded) -> Framed:
    ordinary = [index for index, offset in enumerate(encoded.offsets) if offset != (0, 0)]
    first, last = (ordinary[0], ordinary[-1] + 1) if ordinary else (0, 0)
    offsets = encoded.offsets[first:last]
    body = Pieces(encoded.ids[first:last], [start for start, _ in offsets], [end for _, end in offsets])
    return Framed(encoded.ids[:first], body, encoded.ids[last:])


def masked_input(
    victim: Framed, infiller: Pieces, places: Sequence[tuple[int, int]], mask_id: int, max_length: int
) -> list[int]:
    """The victim's input with ``places`` masked, each by as many masks as the infiller has sub-tokens there.

    What truncation cut off stays out; where masks outnumber what they replace, the end is cut off again.
    """
    ids, done = list(victim.opening), 0
    for start, end in places:
        low, high = victim.body.covered(start, end)
        low = max(low, done)
        if low < high:
            count_low, count_high = infiller.covered(start, end)
            ids += victim.body.ids[done:low] + [mask_id] * (count_high - count_low)
            done = high
    ids += victim.body.ids[done:]
    return ids[: max_length - len(victim.closing)] + victim.closing
