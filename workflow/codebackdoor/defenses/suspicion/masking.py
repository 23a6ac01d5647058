"""The elements of a text that are masked one at a time, and the victim's input with one of them masked.

CodePurify, section III-A1 (ledger P21, P23, P24, P37).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from codebackdoor.defenses.inputs.token_spans import TokenSpans
from codebackdoor.defenses.suspicion.settings import ElementSettings, Names, PairHandling
from codebackdoor.syntax import IdentifierRole, Tree
from codebackdoor.victims.victim import Encoded

ElementKind = Literal["identifier", "statement"]
#: Roles of the names that a function declares itself.
_DECLARED: tuple[IdentifierRole, ...] = ("function", "parameter", "variable")


@dataclass(frozen=True, slots=True)
class Element:
    """An identifier with all its occurrences, or a statement with the tokens of it that are masked.

    ``span`` is the element itself (of an identifier: the first occurrence), ``masked`` the disjoint character spans of
    the text that are masked, in order.
    """

    kind: ElementKind
    text: str
    span: tuple[int, int]
    masked: tuple[tuple[int, int], ...]


#: What is masked at a time: for each function of an input the element in it, or None.
Group = tuple[Element | None, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """One function of an input: its tree, and its sub-tokens under the infiller's tokenizer and the victim's."""

    tree: Tree
    infiller: TokenSpans
    victim: Encoded


def elements(tree: Tree, settings: ElementSettings) -> list[Element]:
    """Distinct identifiers by name, then statements.

    A statement of keywords only (``pass``) is left out if keywords are kept.
    """
    return [*_identifiers(tree, settings.names), *_statements(tree, settings)]


def _identifiers(tree: Tree, names: Names) -> Iterator[Element]:
    """Names that the text declares (``declared``), where a renaming changes them, or names in any role (``all``)."""
    occurrences: dict[str, list[tuple[int, int]]] = {}
    for identifier in tree.identifiers():
        if names == "all" or identifier.role in _DECLARED:
            occurrences.setdefault(identifier.name, []).extend(identifier.spans)
    for name, spans in occurrences.items():
        yield Element("identifier", name, min(spans), tuple(sorted(spans)))


def _statements(tree: Tree, settings: ElementSettings) -> Iterator[Element]:
    masked: dict[tuple[str, int], list[tuple[int, int]]] = {}
    spans: dict[tuple[str, int], tuple[int, int]] = {}
    kept = ("keyword", "mark") if settings.keywords == "kept" else ("mark",)
    end_of_last = 0
    for number, (start, end) in enumerate(statement.span for statement in tree.statements()):
        if settings.statement_level == "outermost" and start < end_of_last:
            continue
        end_of_last = max(end, end_of_last)
        tokens = [token for token in tree.tokens_in(start, end) if token.kind not in kept]
        if tokens:
            text = " ".join(tree.text[start:end].split())
            key = (text, 0 if settings.repeats == "together" else number)
            spans.setdefault(key, (start, end))
            masked.setdefault(key, []).extend((token.start, token.end) for token in tokens)
    for key, (start, end) in spans.items():
        yield Element("statement", tree.text[start:end], (start, end), tuple(masked[key]))


def groups(functions: Sequence[Sequence[Element]], pairs: PairHandling) -> list[Group]:
    """Which elements of an input's functions are masked at a time.

    ``single``: each by itself. ``joint``: elements of the same kind and text together, the first of one function with
    the first of the other; layout does not count.
    """
    count = len(functions)
    if pairs == "single" or count == 1:
        return [
            tuple(element if at == number else None for at in range(count))
            for number, function in enumerate(functions)
            for element in function
        ]
    numbered = [_numbered(function) for function in functions]
    keys = dict.fromkeys(chain.from_iterable(numbered))
    return [tuple(function.get(key) for function in numbered) for key in keys]


def _numbered(function: Sequence[Element]) -> dict[tuple[ElementKind, str, int], Element]:
    """Elements by kind, text without layout, and how many with the same text come before."""
    seen: Counter[tuple[ElementKind, str]] = Counter()
    numbered = {}
    for element in function:
        key = (element.kind, " ".join(element.text.split()))
        numbered[(*key, seen[key])] = element
        seen[key] += 1
    return numbered


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
