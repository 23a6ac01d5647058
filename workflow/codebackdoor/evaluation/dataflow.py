"""Data-flow edges of a syntax tree with variables numbered in order of appearance (Ren et al. 2020, section 3.3).

There are two kinds of edges: a name that is read again *comes from* itself, and the names on the left of an assignment
are *computed from* those on its right. Branches and loops are visited once, in source order; names of called functions,
attributes, keyword arguments and types are not variables. This follows the published definition, not the released
code, whose extractors differ between languages; see docs/fidelity.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from codebackdoor.types import Language

#: A syntax node of codebackdoor.syntax.
Node = Any
Edge = tuple[str, int, tuple[int, ...]]

#: By language: node types of assignments, with the fields of their target and value.
ASSIGNMENTS: dict[Language, dict[str, tuple[str, str]]] = {
    "python": {
        "assignment": ("left", "right"),
        "augmented_assignment": ("left", "right"),
        "named_expression": ("name", "value"),
        "for_statement": ("left", "right"),
        "for_in_clause": ("left", "right"),
    },
    "java": {
        "variable_declarator": ("name", "value"),
        "assignment_expression": ("left", "right"),
        "enhanced_for_statement": ("name", "value"),
        "resource": ("name", "value"),
    },
    "c": {"init_declarator": ("declarator", "value"), "assignment_expression": ("left", "right")},
}
#: By language: node types and fields in which an identifier is not a variable.
NO_VARIABLES: dict[Language, frozenset[tuple[str, str]]] = {
    "python": frozenset(
        {
            ("attribute", "attribute"),
            ("keyword_argument", "name"),
            ("call", "function"),
            ("function_definition", "name"),
            ("class_definition", "name"),
        }
    ),
    "java": frozenset(
        {("field_access", "field"), ("method_invocation", "name"), ("method_declaration", "name")}
        | {("class_declaration", "name"), ("constructor_declaration", "name")}
    ),
    "c": frozenset({("call_expression", "function"), ("function_declarator", "declarator")}),
}


@dataclass(frozen=True, slots=True)
class _Assignment:
    targets: tuple[str, ...]
    sources: tuple[str, ...]


def edges(root: Node, language: Language) -> Counter[Edge]:
    """Multiset of (relation, variable, sources); variables are numbered in the order of the edges that name them."""
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        return numbers.setdefault(name, len(numbers))

    counts: Counter[Edge] = Counter()
    known_names: set[str] = set()
    for item in _events(root, language):
        if isinstance(item, str):
            if item in known_names:
                counts["comes from", number(item), (number(item),)] += 1
            known_names.add(item)
            continue
        for target in item.targets:
            known_names.add(target)
            if item.sources:
                sources = tuple(number(source) for source in item.sources)
                counts["computed from", number(target), sources] += 1
    return counts


def _events(root: Node, language: Language) -> list[str | _Assignment]:
    """Reads and assignments in the order in which they take effect."""
    events: list[str | _Assignment] = []
    stack: list[Node | _Assignment] = [root]
    while stack:
        item = stack.pop()
        if isinstance(item, _Assignment):
            events.append(item)
        elif item.type == "identifier":
            events.append(item.text.decode())
        else:
            stack.extend(reversed(_steps(item, language)))
    return events


def _steps(node: Node, language: Language) -> list[Node | _Assignment]:
    """The children of a node; an assignment's target is left out, since it takes effect after the value."""
    children = _children(node, language)
    fields = ASSIGNMENTS[language].get(node.type)
    target = node.child_by_field_name(fields[0]) if fields else None
    value = node.child_by_field_name(fields[1]) if fields else None
    if target is None or value is None:
        return children
    sources = _names(value, language)
    if node.type == "augmented_assignment" or _operator(node) not in ("=", None):
        sources = tuple(dict.fromkeys((*_names(target, language), *sources)))
    steps: list[Node | _Assignment] = []
    for child in children:
        if child.id != target.id:
            steps.append(child)
        if child.id == value.id:
            steps.append(_Assignment(_names(target, language), sources))
    return steps


def _operator(node: Node) -> str | None:
    operator = node.child_by_field_name("operator")
    return None if operator is None else str(operator.type)


def _names(root: Node, language: Language) -> tuple[str, ...]:
    """Distinct variables below ``root``, in source order."""
    names: dict[str, None] = {}
    stack = [root]
    while stack:
        node = stack.pop()
        if node.type == "identifier":
            names[node.text.decode()] = None
        else:
            stack.extend(reversed(_children(node, language)))
    return tuple(names)


def _children(node: Node, language: Language) -> list[Node]:
    """Children without identifiers that are not variables, and without type annotations."""
    excluded = {
        child.id
        for kind, name in NO_VARIABLES[language]
        if kind == node.type and (child := node.child_by_field_name(name)) is not None and child.type == "identifier"
    }
    return [child for child in node.children if child.id not in excluded and child.type != "type"]
