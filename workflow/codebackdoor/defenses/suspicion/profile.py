"""The scored elements of one input: which of them count, how concentrated their scores are, and which is suspect.

CodePurify, section III-A3 (ledger P21, P33). All of it is decided from the scores alone, without the victim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codebackdoor.defenses.inputs.functions import CODE_FIELDS
from codebackdoor.defenses.suspicion.entropy import entropy
from codebackdoor.defenses.suspicion.masking import Element, Group
from codebackdoor.defenses.suspicion.settings import ElementSettings
from codebackdoor.types import CodeField, Example, Span


@dataclass(frozen=True, slots=True)
class Scored:
    """Elements that are masked together, and their suspicion score (Eq. 2)."""

    group: Group
    score: float

    @property
    def parts(self) -> list[tuple[CodeField, Element]]:
        """The elements, with the functions that they are in."""
        return [
            (field, element) for field, element in zip(CODE_FIELDS, self.group, strict=False) if element is not None
        ]

    @property
    def masked(self) -> list[Span]:
        return [Span(start, end, field) for field, element in self.parts for start, end in element.masked]

    @property
    def size(self) -> int:
        """Number of masked characters."""
        return sum(span.end - span.start for span in self.masked)

    def as_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"kind": self.parts[0][1].kind, "score": self.score}
        for field, element in self.parts:
            row[field] = {"span": element.span, "masked": element.masked}
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any], example: Example) -> Scored:
        """The inverse of ``as_json`` for elements of ``example``."""
        return cls(tuple(_element(row, example, field) for field in CODE_FIELDS), row["score"])


def _element(row: Mapping[str, Any], example: Example, field: CodeField) -> Element | None:
    if field not in row:
        return None
    start, end = row[field]["span"]
    masked = tuple((first, last) for first, last in row[field]["masked"])
    return Element(row["kind"], (getattr(example, field) or "")[start:end], (start, end), masked)


@dataclass(frozen=True, slots=True)
class Profile:
    """The elements of one input that the settings select, and the entropy of the scores that count.

    The entropy is None for fewer than two scores, since none can stand out. A single score would have the entropy 0,
    and if only statements or only identifiers are masked, more clean inputs have a single one than may be touched.
    """

    elements: list[Scored]
    entropy: float | None

    @property
    def suspect(self) -> Scored:
        """The element with the highest score; among equal ones that with the fewest masked characters."""
        return max(self.elements, key=_suspicion)

    @property
    def has_suspect(self) -> bool:
        """Whether some element changes the prediction at all."""
        return bool(self.elements) and self.suspect.score > 0

    def is_concentrated(self, threshold: float) -> bool:
        """Whether an element changes the prediction, and the entropy of all scores is below the threshold."""
        return self.has_suspect and self.entropy is not None and self.entropy < threshold


def profile_of(scored: Sequence[Scored], settings: ElementSettings) -> Profile:
    """The profile of one input under the settings that say which scores count, and how."""
    kinds = {"identifier": settings.identifiers, "statement": settings.statements}
    selected = [element for element in scored if kinds[element.parts[0][1].kind]]
    counted = selected if settings.overlap == "separate" else disjoint(selected)
    scores = [element.score for element in counted]
    return Profile(selected, entropy(scores, settings.normalization) if len(scores) > 1 else None)


def profiles_of(
    evidence: Sequence[Mapping[str, Any]], inputs: Sequence[Example], settings: ElementSettings
) -> list[Profile]:
    """The profile of each input, by the evidence on it."""
    return [
        profile_of([Scored.from_json(element, example) for element in row["elements"]], settings)
        for row, example in zip(evidence, inputs, strict=True)
    ]


def disjoint(scored: Sequence[Scored]) -> list[Scored]:
    """Elements in order of suspicion, without those that share a masked character with a more suspicious one."""
    selected: list[Scored] = []
    covered = dict.fromkeys(CODE_FIELDS, 0)
    for element in sorted(scored, key=_suspicion, reverse=True):
        characters = _characters(element)
        if not any(covered[field] & bits for field, bits in characters.items()):
            selected.append(element)
            for field, bits in characters.items():
                covered[field] |= bits
    return selected


def _suspicion(element: Scored) -> tuple[float, int]:
    return element.score, -element.size


def _characters(element: Scored) -> dict[CodeField, int]:
    """The masked characters of each function, as the bits of a number."""
    bits = dict.fromkeys(CODE_FIELDS, 0)
    for field, part in element.parts:
        for start, end in part.masked:
            bits[field] |= (1 << end) - (1 << start)
    return bits
