"""The elements of a text that are masked one at a time, and the victim's input with one of them masked.

CodePurify, section III-A1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codebackdoor.defenses.purification.token_spans import TokenSpans
from codebackdoor.syntax import Tree
from codebackdoor.victims.victim import Encoded

Kind = Literal["identifier", "statement"]


@dataclass(frozen=True, slots=True)
class Element:
    """An identifier with all its occurrences, or a statement with its tokens except for keywords and layout marks.

    ``span`` is the element itself (of an identifier: the first occurrence), ``masked`` the disjoint character spans of
    the text that are masked, in order.
    """

    kind: Kind
    text: str
    span: tuple[int, int]
    masked: tuple[tuple[int, int], ...]


def elements(tree: Tree, identifiers: bool, statements: bool) -> list[Element]:
    """Distinct identifiers (by name, regardless of their roles), then statements, including nested ones.

    A statement that consists of keywords (``pass``) has no masked version and is left out.
    """
    result: list[Element] = []
    if identifiers:
        occurrences: dict[str, list[tuple[int, int]]] = {}
        for identifier in tree.identifiers():
            occurrences.setdefault(identifier.name, []).extend(identifier.spans)
        for name, spans in occurrences.items():
            result.append(Element("identifier", name, min(spans), tuple(sorted(spans))))
    if statements:
        for statement in tree.statements():
            start, end = statement.span
            tokens = [token for token in tree.tokens_in(start, end) if token.kind not in ("keyword", "mark")]
            if tokens:
                masked = tuple((token.start, token.end) for token in tokens)
                result.append(Element("statement", tree.text[start:end], (start, end), masked))
    return result


@dataclass(frozen=True, slots=True)
class Framed:
    """A victim's input: the text's sub-tokens (after truncation) between special tokens."""

    opening: list[int]
    body: TokenSpans
    closing: list[int]


def framed(encoded: Encoded) -> Framed:
    ordinary = [index for index, offset in enumerate(encoded.offsets) if offset != (0, 0)]
    first, last = (ordinary[0], ordinary[-1] + 1) if ordinary else (0, 0)
    offsets = encoded.offsets[first:last]
    body = TokenSpans(encoded.ids[first:last], [start for start, _ in offsets], [end for _, end in offsets])
    return Framed(encoded.ids[:first], body, encoded.ids[last:])


def masked_input(
    victim: Framed, infiller: TokenSpans, spans: Sequence[tuple[int, int]], mask_id: int, max_length: int
) -> list[int]:
    """The victim's input with ``spans`` masked, each by as many masks as the infiller has sub-tokens there.

    Sub-tokens that truncation removed stay removed; if the masks outnumber the sub-tokens that they replace, the end is
    truncated again.
    """
    ids, copied = list(victim.opening), 0
    for start, end in spans:
        low, high = victim.body.covered(start, end)
        low = max(low, copied)
        if low < high:
            infiller_low, infiller_high = infiller.covered(start, end)
            ids += victim.body.ids[copied:low] + [mask_id] * (infiller_high - infiller_low)
            copied = high
    ids += victim.body.ids[copied:]
    return ids[: max_length - len(victim.closing)] + victim.closing
