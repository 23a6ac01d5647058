"""The characters of a sample that a trigger replaces: an identifier, or the gap before the body's first statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from codebackdoor import syntax
from codebackdoor.types import CodeField, Example


@dataclass(frozen=True, slots=True)
class TriggerSpans:
    """Where a trigger goes in one field of a sample: the character spans that it replaces, in order.

    That is an identifier, or an empty span for a first statement, which ``before`` and ``after`` separate from its
    neighbors.
    """

    name: str
    spans: tuple[tuple[int, int], ...]
    field: CodeField = "code"
    before: str = ""
    after: str = ""

    def replace(self, text: str, new: str) -> str:
        new = f"{self.before}{new}{self.after}"
        return syntax.replace(text, [(start, end, new) for start, end in self.spans]).text


def insert(example: Example, spans: Sequence[TriggerSpans], trigger: str) -> Example:
    """The example with the trigger in each field that has spans."""
    texts = {part.field: part.replace(str(getattr(example, part.field)), trigger) for part in spans}
    return replace(example, code=texts.get("code", example.code), code_b=texts.get("code_b", example.code_b))


def candidates(tree: syntax.Tree, occurrences: str, field: CodeField = "code") -> list[TriggerSpans]:
    """The options in a text: each renameable identifier, or each of its occurrences (``occurrences: one``)."""
    names = [identifier for identifier in tree.identifiers() if identifier.renameable]
    if occurrences == "all":
        return [TriggerSpans(identifier.name, identifier.spans, field) for identifier in names]
    return [TriggerSpans(identifier.name, (span,), field) for identifier in names for span in identifier.spans]


def function_name(tree: syntax.Tree, occurrences: str, field: CodeField = "code") -> TriggerSpans | None:
    """The name of the function that the text defines: in its definition, or everywhere."""
    identifier = tree.function_name()
    if identifier is None:
        return None
    return TriggerSpans(identifier.name, identifier.spans if occurrences == "all" else identifier.spans[:1], field)


def statement(tree: syntax.Tree, field: CodeField = "code") -> TriggerSpans | None:
    """The gap for a first statement in the body of the function that the text defines."""
    gap = syntax.first_place(tree)
    if gap is None:
        return None
    at, before, after = gap
    return TriggerSpans("", ((at, at),), field, before, after)
