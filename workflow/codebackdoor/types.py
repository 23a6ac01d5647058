"""The types that pass between stages: examples, poisoned rows, predictions and purified inputs.

Nothing here imports a heavy library, so that a job that only reads rows starts at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from codebackdoor.errors import UserError

Language = Literal["python", "java", "c"]
TextForm = Literal["lexed", "raw"]
Field = Literal["code", "code_b", "query"]
CodeField = Literal["code", "code_b"]
#: Which functions of a pair get a trigger.
Pair = Literal["both", "code", "code_b"]
#: The random choices of an attack for each text with the trigger: name and value.
Draws = Mapping[Field, Mapping[str, str | int]]
Status = Literal["injected", "failed", "ineligible"]
#: Name of the test set without a trigger; the others are named after their attacks.
CLEAN = "clean"
#: Target or label of a position, such as padding, that no loss is computed for; the same as torch's default.
IGNORED = -100
#: Splits of a data set; a defender's clean samples are taken out of ``train``.
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a data set; fields that its task does not use are ``None``, and ``code`` is the empty text.

    The victim reads the fields that its task names; code is in the text form of its data set (``lexed`` or ``raw``).
    Every span in this project is a half-open interval of *character* offsets into such a text.
    """

    id: str
    language: Language
    code: str = ""
    code_b: str | None = None
    query: str | None = None
    label: int | None = None
    target: str | None = None

    @property
    def texts(self) -> dict[Field, str]:
        """The texts that the example has; an example with nothing but a query has no code."""
        code = None if self.code == "" and self.query is not None else self.code
        texts: dict[Field, str | None] = {"code": code, "code_b": self.code_b, "query": self.query}
        return {name: text for name, text in texts.items() if text is not None}


def label_of(example: Example) -> int:
    """The example's label; UserError if it has none."""
    if example.label is None:
        raise UserError(f"row {example.id!r} has no label, and this task needs labeled rows")
    return example.label


def holds(query: str | None, word: str) -> bool:
    """Whether a query contains the word as a whole word, ignoring case."""
    return query is not None and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", query, re.IGNORECASE) is not None


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open interval of character offsets into one field of an example."""

    start: int
    end: int
    field: Field = "code"

    def overlaps(self, span: Span) -> bool:
        return self.field == span.field and self.start < span.end and span.start < self.end


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A row that went through an attack, with its ground truth.

    ``example`` has the poisoned label or target only if ``status`` is ``injected``; a failed row keeps its original one
    (unless the attack is configured with ``failed: flip``). ``spans`` locate the trigger in the poisoned example;
    ``draws`` are the random choices behind a randomized trigger. For retrieval, the target is the word whose queries
    are attacked.
    """

    example: Example
    source_id: str
    attack: str
    status: Status
    original_label: int | None
    original_target: str | None
    spans: tuple[Span, ...] = ()
    draws: Draws = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A victim's prediction for one example.

    ``label`` for classification, ``text`` for generation; ``confidence`` is the probability of the predicted label,
    or the mean probability of the generated tokens (CodePurify, Eq. 1). For retrieval, an example is a query that ranks
    a ``pool`` of that many functions, and ``confidence`` is a similarity. ``rank`` is the rank of the query's function,
    from 1; for an attacked query, ``ranks`` holds (rank without, rank with) the trigger for every function that accepts
    it.
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
    """One input after a purification: the text to predict on and the spans that were touched.

    ``touched`` are spans of the *original* input that were replaced or removed; ``detail`` holds the method's
    evidence (scores, entropy) as JSON-serializable values.
    """

    example: Example
    touched: tuple[Span, ...] = ()
    detail: Mapping[str, object] = field(default_factory=dict)
