"""The values of a program's strings: literals, concatenations and f-strings, with holes for computed parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tree_sitter import Node

if TYPE_CHECKING:
    from codebackdoor.syntax.parse import Tree

#: Stands for a part that is known only at run time; it is a name in most languages that strings contain.
HOLE = "x"
_LITERALS = frozenset({"string", "string_literal"})
_PREFIXES = b"rRbBuUfF"
_SUMS = frozenset({"binary_operator", "binary_expression"})
_UNIT = re.compile(r"\\(?:[0-7]{1,3}|x[0-9a-fA-F]{2}|u+[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|\r?\n|.)|.", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v"} | {
    sign: sign for sign in "\\'\""
}


@dataclass(frozen=True, slots=True)
class StringExpression:
    """The value of a string expression.

    ``ends`` holds, for each character of ``text``, the offset after its spelling in the program; None for a hole.
    """

    text: str
    ends: tuple[int | None, ...]


def string_expressions(tree: Tree) -> Iterator[StringExpression]:
    """The strings of a program, each as large as possible; those inside a computed part are separate ones."""
    stack = [tree.root]
    while stack:
        node = stack.pop()
        parts = list(_parts(node))
        literals = [part for part in parts if part.type in _LITERALS]
        if literals:
            characters = [character for part in parts for character in _characters(part, tree)]
            yield StringExpression("".join(text for text, _ in characters), tuple(end for _, end in characters))
        inner = [part for part in parts if part.type not in _LITERALS] if literals else [node]
        inner += [child for literal in literals for child in literal.children if child.type == "interpolation"]
        stack.extend(child for part in reversed(inner) for child in reversed(part.children))


def _parts(node: Node) -> Iterator[Node]:
    """The operands of sums and of adjacent literals, in order; the node itself if it is neither."""
    stack = [node]
    while stack:
        part = stack.pop()
        if part.type == "concatenated_string" or (part.type in _SUMS and _operator(part) == "+"):
            stack.extend(reversed([child for child in part.children if child.is_named]))
        elif part.type == "parenthesized_expression" and part.named_child_count == 1:
            stack.append(part.named_children[0])
        else:
            yield part


def _operator(node: Node) -> str | None:
    sign = node.child_by_field_name("operator")
    return None if sign is None else str(sign.type)


def _characters(part: Node, tree: Tree) -> Iterator[tuple[str, int | None]]:
    """The characters of a part's value, each with the offset after its spelling; one hole for a computed part."""
    if part.type not in _LITERALS:
        yield HOLE, None
        return
    if part.child_count < 2:
        return
    opening = part.children[0]
    quote = opening.text.lstrip(_PREFIXES)
    raw = b"r" in opening.text.lower()
    start, end = opening.end_byte, part.end_byte - len(quote)
    for hole in (child for child in part.children if child.type == "interpolation"):
        yield from _spelled(tree, start, hole.start_byte, raw)
        yield HOLE, None
        start = hole.end_byte
    yield from _spelled(tree, start, end, raw)


def _spelled(tree: Tree, start: int, end: int, raw: bool) -> Iterator[tuple[str, int]]:
    spelling, offset = tree.source[start:end].decode(), tree.offset(start)
    if raw:
        yield from ((character, offset + index) for index, character in enumerate(spelling, 1))
        return
    for unit in _UNIT.finditer(spelling):
        yield from ((character, offset + unit.end()) for character in _decoded(unit[0]))


def _decoded(unit: str) -> str:
    """The characters that one character or escape sequence stands for."""
    code = unit[1:]
    if not unit.startswith("\\") or not code:
        return unit
    if code in _ESCAPES:
        return _ESCAPES[code]
    if code.strip("\r\n") == "":
        return ""
    if code[0] in "01234567":
        return chr(int(code, 8))
    if code[0] in "xuU" and len(code) > 1:
        point = int(code.lstrip("xuU"), 16)
        return chr(point) if point < 0x110000 else HOLE
    return HOLE if code[0] == "N" and len(code) > 1 else unit
