"""The identifiers of a text, their roles, and which of them can be renamed without changing what the code does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from codebackdoor.syntax.scopes import DECLARED, Occurrence
from codebackdoor.syntax.unrenameable import fixed_names

if TYPE_CHECKING:
    from codebackdoor.syntax.parse import Tree

IdentifierRole = Literal["function", "parameter", "variable", "call", "attribute", "keyword", "type", "other"]

_BY_TAG: dict[str, IdentifierRole] = {
    "attribute": "attribute",
    "keyword": "keyword",
    "typename": "type",
    "tag": "type",
    "type": "type",
    "call": "call",
    "method": "call",
}


@dataclass(frozen=True, slots=True)
class Identifier:
    """One name in one role; ``spans`` are all its occurrences (half-open, characters).

    ``renameable``: the function's name, a parameter or a local variable whose spelling does not matter
    (``unrenameable``). Attributes, fields, labels, types and names that the text does not declare never are. The same
    spelling may occur in another role: the parameter ``name`` and the attribute in ``self.name``.
    """

    name: str
    role: IdentifierRole
    spans: tuple[tuple[int, int], ...]
    renameable: bool


def collect(tree: Tree) -> list[Identifier]:
    """All identifiers of the tree in the order of their first occurrence."""
    groups: dict[tuple[str, str], list[Occurrence]] = {}
    for occurrence in tree.analysis.occurrences:
        groups.setdefault((occurrence.name, occurrence.group), []).append(occurrence)
    fixed = fixed_names(tree)
    return [
        Identifier(
            name,
            _role(members, tree.analysis.function),
            tuple((tree.offset(occurrence.start), tree.offset(occurrence.end)) for occurrence in members),
            group == "declared" and name not in fixed,
        )
        for (name, group), members in groups.items()
    ]


def _role(members: list[Occurrence], function: Occurrence | None) -> IdentifierRole:
    if any(occurrence is function for occurrence in members):
        return "function"
    kinds = {occurrence.kind for occurrence in members}
    for role in DECLARED:
        if role in kinds:
            return role
    return next((_BY_TAG[occurrence.tag] for occurrence in members if occurrence.tag in _BY_TAG), "other")
