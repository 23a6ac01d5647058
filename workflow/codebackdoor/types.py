"""What passes between the stages: examples, poisoned rows, predictions and the two views of a defender.

Nothing here imports a heavy library, so that a job which only reads rows starts at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from codebackdoor.victims.victim import Victim

Language = Literal["python", "java", "c"]
TextForm = Literal["lexed", "raw"]
Field = Literal["code", "code_b", "query"]
CodeField = Literal["code", "code_b"]
#: Which functions of a pair get a trigger.
Pair = Literal["both", "code", "code_b"]
Status = Literal["injected", "failed", "ineligible"]
#: Name of the test set without a trigger; the others are named by their attacks.
CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a data set; what its task does not use is ``None``.

    ``code`` is the text that the victim reads, in the text form of its data set (``lexed`` or ``raw``).
    Every span in this project is a half-open interval of *character* offsets into such a text.
    """

    id: str
    language: Language
    code: str
    code_b: str | None = None
    query: str | None = None
    label: int | None = None
    target: str | None = None


def holds(query: str | None, word: str) -> bool:
    """Whether a query holds the word, whole and in any case."""
    return query is not None and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", query, re.IGNORECASE) is not None


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open interval of character offsets into one field of an example."""

    start: int
    end: int
    field: Field = "code"

    def overlaps(self, other: Span) -> bool:
        return self.field == other.field and self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A row that went through an attack, with its ground truth.

    ``example`` carries the poisoned label or target only where ``status`` is ``injected``; a failed row keeps its
    own (unless the attack is told otherwise: ``failed: flip``). ``spans`` are the trigger's places in the poisoned
    example. For search the target is the word whose queries are attacked.
    """

    example: Example
    source_id: str
    attack: str
    status: Status
    original_label: int | None
    original_target: str | None
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a victim says of one example.

    ``label`` for classification, ``text`` for generation; ``confidence`` is the probability of the predicted label,
    or the mean probability of the generated tokens (CodePurify, Eq. 1). For retrieval an example is a query of a
    ``pool`` of that many functions: ``rank`` is that of its own function, from 1; of an attacked one ``ranks`` holds
    (rank without, rank with) the trigger of each function that takes it; ``confidence`` is a similarity.
    """

    id: str
    confidence: float
    label: int | None = None
    text: str | None = None
    rank: float | None = None
    ranks: tuple[tuple[float, float], ...] | None = None
    pool: int | None = None


@dataclass(frozen=True, slots=True)
class Purified:
    """One input after a purification: the text to predict on and what was touched.

    ``touched`` are spans of the *original* input that were replaced or removed; ``detail`` holds the method's own
    evidence (scores, entropy), JSON-serialisable.
    """

    example: Example
    touched: tuple[Span, ...] = ()
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextView:
    """All that a defender sees who does not look at the victim: no trigger, place, target, rate, status, test label."""

    task: str
    language: Language
    text_form: TextForm
    clean: tuple[Example, ...]
    helpers: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DefenderView(TextView):
    """All that a defender of an already trained model sees: the victim, beside the above.

    ``inverted`` is the ``trigger.json`` of the defender's own elimination, for a purification that reads it.
    """

    victim: Victim = field(kw_only=True)
    inverted: Mapping[str, Any] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A training row without provenance: an opaque id, the texts and the (perhaps poisoned) label or target."""

    id: str
    code: str
    code_b: str | None
    query: str | None
    label: int | None
    target: str | None
