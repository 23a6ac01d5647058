"""The identifiers of a text, their roles, and which of them can be renamed without changing what the code does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from codebackdoor.syntax.scopes import OWN, Occurrence
from codebackdoor.syntax.unrenameable import fixed_names

if TYPE_CHECKING:
    from codebackdoor.syntax.parse import Tree

Role = Literal["function", "parameter", "variable", "call", "attribute", "keyword", "type", "other"]

_BY_TAG: dict[str, Role] = {
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
    """One name in one role; ``spans`` are all its places (half-open, characters).

    ``renameable``: the function's own name, a parameter or a local variable, and nothing in the text shows that its
    spelling matters (``unrenameable``). Attributes, fields, labels, types and whatever the text does not declare never
    are. The same spelling may come back in another role: the parameter ``name`` and the attribute in ``self.name``.
    """

    name: str
    role: Role
    spans: tuple[tuple[int, int], ...]
    renameable: bool


def collect(tree: Tree) -> list[Identifier]:
    """All identifiers of the tree in the order of their first occurrence."""
    groups: dict[tuple[str, str], list[Occurrence]] = {}
    for one in tree.analysis.occurrences:
        groups.setdefault((one.name, one.group), []).append(one)
    fixed = fixed_names(tree)
    return [
        Identifier(
            name,
            _role(members, tree.analysis.function),
            tuple((tree.offset(one.start), tree.offset(one.end)) for one in members),
            group == "own" and name not in fixed,
        )
        for (name, group), members in groups.items()
    ]


def _role(members: list[Occurrence], function: Occurrence | None) -> Role:
    if any(one is function for one in members):
        return "function"
    kinds = {one.kind for one in members}
    for role in OWN:
        if role in kinds:
            return role
    return next((_BY_TAG[one.tag] for one in members if one.tag in _BY_TAG), "other")
