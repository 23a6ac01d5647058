"""Data flow as CodeXGLUE's released CodeBLEU extracts it, for Java and Python, which are the languages of its tables.

It differs from the published definition (``dataflow``): literals and function names count as variables; a Java variable
*comes from* its initial value and is *computed from* later ones; loop bodies are visited twice; the definitions of all
branches reach the code after them. A function for which the extractor fails, such as one with syntax errors, has no
flow. In the released code, the sources of an edge have the random order of a set; here they are sorted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codebackdoor.types import Language

#: A syntax node of codebackdoor.syntax.
Node = Any
#: Relation, variable, and the variables that it comes from; variables are numbered.
NormalEdge = tuple[str, int, tuple[int, ...]]
#: The places of the definitions that are in effect, by name.
_States = dict[str, list[int]]

_COMES, _COMPUTED = "comes from", "computed from"
_TEXTS = frozenset({"string_literal", "string", "character_literal"})


@dataclass(frozen=True, slots=True)
class _Edge:
    """``place`` is the index of the token; ``sources`` are names, and ``places`` the indices of their tokens."""

    name: str
    place: int
    relation: str
    sources: tuple[str, ...] = ()
    places: tuple[int, ...] = ()


class _UnreadableError(Exception):
    """The released extractor would mistake part of a string for a token, or a syntax error left a node incomplete."""


def supports(language: Language) -> bool:
    """Whether there is an extractor for a language; for C, the released code uses that of C#."""
    return language in _STEPS


def edges(root: Node, language: Language) -> Counter[NormalEdge]:
    """Multiset of the edges, with variables numbered in the order in which the edges name them."""
    flow = _Flow(root, _STEPS[language])
    try:
        links, _ = flow.visit(root, {})
    except (_UnreadableError, RecursionError):
        return Counter()
    return _normal(_merged(_connected(links)))


def _connected(links: Sequence[_Edge]) -> list[_Edge]:
    """The edges of tokens that have or are a source, in token order."""
    used = {edge.place for edge in links if edge.sources} | {place for edge in links for place in edge.places}
    return sorted((edge for edge in links if edge.place in used), key=lambda edge: edge.place)


def _merged(links: Iterable[_Edge]) -> list[_Edge]:
    """Merge the edges of each token into one, which has the relation of the last one."""
    by_place: dict[int, _Edge] = {}
    for edge in links:
        first = by_place.get(edge.place)
        by_place[edge.place] = edge if first is None else _joined(first, edge)
    return list(by_place.values())


def _joined(first: _Edge, second: _Edge) -> _Edge:
    sources = tuple(sorted({*first.sources, *second.sources}))
    return _Edge(second.name, second.place, second.relation, sources, tuple(sorted({*first.places, *second.places})))


def _normal(links: Iterable[_Edge]) -> Counter[NormalEdge]:
    numbers: dict[str, int] = {}
    counts: Counter[NormalEdge] = Counter()
    for edge in links:
        sources = tuple(numbers.setdefault(name, len(numbers)) for name in edge.sources)
        counts[edge.relation, numbers.setdefault(edge.name, len(numbers)), sources] += 1
    return counts


class _Flow:
    """The tokens of one function, and the edges between them."""

    def __init__(self, root: Node, steps: Mapping[str, _Step]) -> None:
        self.steps = steps
        self.places = {node.id: place for place, node in enumerate(_tokens(root))}

    def visit(self, node: Node, states: _States) -> tuple[list[_Edge], _States]:
        """The edges below a node, in token order, and the definitions in effect after it."""
        states = dict(states)
        if _is_token(node):
            return self._read(node, states)
        links, states = self.steps.get(node.type, _in_order)(self, node, states)
        return sorted(links, key=lambda edge: edge.place), states

    def each(self, nodes: Iterable[Node], states: _States) -> tuple[list[_Edge], _States]:
        """Visit nodes one after another."""
        links: list[_Edge] = []
        for node in nodes:
            node_links, states = self.visit(node, states)
            links += node_links
        return links, states

    def place(self, token: Node) -> int:
        place = self.places.get(token.id)
        if place is None:
            raise _UnreadableError
        return place

    def variables(self, node: Node) -> list[tuple[str, int]]:
        """Names and literals below a node, each with its place."""
        return [(_text(token), self.place(token)) for token in _tokens(node) if token.type != _text(token)]

    def define(self, left: Node, right: Node, relation: str, states: _States) -> list[_Edge]:
        """Define each name on the left; return an edge to it from each name on the right."""
        values = self.variables(right)
        links = []
        for name, place in self.variables(left):
            links += [_Edge(name, place, relation, (source,), (at,)) for source, at in values]
            states[name] = [place]
        return links

    def _read(self, node: Node, states: _States) -> tuple[list[_Edge], _States]:
        name, place = _text(node), self.place(node)
        if node.type == name:
            return [], states
        if name in states:
            return [_Edge(name, place, _COMES, (name,), tuple(states[name]))], states
        if node.type == "identifier":
            states[name] = [place]
        return [_Edge(name, place, _COMES)], states


#: Visits a node of one type; it may change the states that it is called with.
_Step = Callable[[_Flow, Node, _States], tuple[list[_Edge], _States]]


def _in_order(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    return flow.each(node.children, states)


def _clauses_first(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    """Python: visit the loops of a comprehension before its element."""
    return flow.each(sorted(node.children, key=lambda child: child.type != "for_in_clause"), states)


def _declaration(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    """A Java variable, or a Python parameter with a default."""
    name, value = _part(node, "name"), node.child_by_field_name("value")
    if value is None:
        links = [_Edge(*variable, _COMES) for variable in flow.variables(name)]
        states |= {edge.name: [edge.place] for edge in links}
        return links, states
    links, states = flow.visit(value, states)
    return links + flow.define(name, value, _COMES, states), states


def _assignment(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    left, right = _part(node, "left"), _part(node, "right")
    links, states = flow.visit(right, states)
    return links + flow.define(left, right, _COMPUTED, states), states


def _update(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    return flow.define(node, node, _COMPUTED, states), states


def _java_if(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    at = next((at for at, child in enumerate(node.children) if child.type in ("else", "if_statement")), None)
    first, others = (node.children, []) if at is None else (node.children[:at], node.children[at:])
    return _branches(flow, [first, *([child] for child in others)], states, _has_else(node))


def _python_if(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    clauses = [child for child in node.children if child.type in ("elif_clause", "else_clause")]
    first = [child for child in node.children if child not in clauses]
    return _branches(flow, [first, *([child] for child in clauses)], states, _has_else(node))


def _branches(
    flow: _Flow, branches: Iterable[Sequence[Node]], states: _States, has_else: bool
) -> tuple[list[_Edge], _States]:
    """Visit branches that begin with the same definitions; those of all branches reach the code after them."""
    visited = [flow.each(branch, states) for branch in branches]
    after = [branch for _, branch in visited] + ([] if has_else else [states])
    names = dict.fromkeys(name for branch in after for name in branch)
    united = {name: sorted({place for branch in after for place in branch.get(name, ())}) for name in names}
    return [edge for links, _ in visited for edge in links], united


def _has_else(node: Node) -> bool:
    return any("else" in child.type for child in node.children)


def _twice(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    links, states = flow.each([*node.children, *node.children], states)
    return _distinct(links), states


def _java_for(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    """Visit everything, then again everything after the declaration of the counter."""
    kinds = [child.type for child in node.children]
    declared = "local_variable_declaration"
    again = node.children[kinds.index(declared) + 1 :] if declared in kinds else []
    links, states = flow.each([*node.children, *again], states)
    return _distinct(links), states


def _java_for_each(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    name, value, body = (_part(node, field) for field in ("name", "value", "body"))
    links: list[_Edge] = []
    for _ in range(2):
        value_links, states = flow.visit(value, states)
        links += value_links + flow.define(name, value, _COMPUTED, states)
        inside, states = flow.visit(body, states)
        links += inside
    return _distinct(links), states


def _python_assignment(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    if node.child_by_field_name("right") is None:
        return [], states
    return _assign(flow, _pairs(node), states)


def _python_clause(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    return _assign(flow, [(_part(node, "left"), node.children[-1])], states)


def _python_for(flow: _Flow, node: Node, states: _States) -> tuple[list[_Edge], _States]:
    links: list[_Edge] = []
    for _ in range(2):
        assigned, states = _assign(flow, _pairs(node), states)
        links += assigned
        if node.children[-1].type == "block":
            inside, states = flow.visit(node.children[-1], states)
            links += inside
    return _distinct(links), states


def _pairs(node: Node) -> list[tuple[Node, Node]]:
    """The parts of both sides of an assignment, pairwise, if their numbers are equal; else the two sides."""
    left, right = _part(node, "left"), _part(node, "right")
    lefts, rights = ([child for child in side.children if child.type != ","] for side in (left, right))
    return list(zip(lefts, rights, strict=True)) if lefts and len(lefts) == len(rights) else [(left, right)]


def _assign(flow: _Flow, pairs: Sequence[tuple[Node, Node]], states: _States) -> tuple[list[_Edge], _States]:
    """Python: each name on the left has a single edge, from everything on the right."""
    links, states = flow.each([right for _, right in pairs], states)
    for left, right in pairs:
        values = flow.variables(right)
        sources, places = tuple(name for name, _ in values), tuple(place for _, place in values)
        for name, place in flow.variables(left):
            links.append(_Edge(name, place, _COMPUTED, sources, places))
            states[name] = [place]
    return links, states


def _distinct(links: Iterable[_Edge]) -> list[_Edge]:
    """Merge the edges with the same token and relation, which come from the two passes over a loop."""
    by_relation: dict[tuple[str, int, str], _Edge] = {}
    for edge in links:
        key = (edge.name, edge.place, edge.relation)
        by_relation[key] = _joined(by_relation[key], edge) if key in by_relation else edge
    return sorted(by_relation.values(), key=lambda edge: edge.place)


def _part(node: Node, field: str) -> Node:
    part = node.child_by_field_name(field)
    if part is None:
        raise _UnreadableError
    return part


def _text(node: Node) -> str:
    text: str = node.text.decode()
    return text


def _is_token(node: Node) -> bool:
    return (not node.children or node.type in _TEXTS) and not node.type.endswith("comment")


def _tokens(root: Node) -> Iterable[Node]:
    stack = [root]
    while stack:
        node = stack.pop()
        if _is_token(node):
            yield node
        else:
            stack.extend(reversed(node.children))


_STEPS: Mapping[Language, Mapping[str, _Step]] = {
    "java": {
        "variable_declarator": _declaration,
        "assignment_expression": _assignment,
        "update_expression": _update,
        "if_statement": _java_if,
        "for_statement": _java_for,
        "enhanced_for_statement": _java_for_each,
        "while_statement": _twice,
    },
    "python": {
        "default_parameter": _declaration,
        "assignment": _python_assignment,
        "augmented_assignment": _python_assignment,
        "for_in_clause": _python_clause,
        "if_statement": _python_if,
        "for_statement": _python_for,
        "while_statement": _twice,
        **dict.fromkeys(
            ("list_comprehension", "set_comprehension", "dictionary_comprehension", "generator_expression"),
            _clauses_first,
        ),
    },
}
