"""Syntactically complete statements (CodePurify, section III-A: a whole ``if`` is one unit), and where a body starts.

Statements inside a unit are units as well. An ``elif`` or ``else if`` belongs to its chain, and neither a docstring nor
a block alone is a statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tree_sitter import Node

from codebackdoor.syntax.languages import COMMENTS
from codebackdoor.syntax.lexing import DEDENT, INDENT

if TYPE_CHECKING:
    from codebackdoor.syntax.parse import Tree

_CONSTRUCTORS = frozenset({"constructor_declaration", "compact_constructor_declaration"})
_FUNCTIONS = frozenset({"function_definition", "method_declaration"}) | _CONSTRUCTORS
_BLOCKS = frozenset({"block", "constructor_body", "compound_statement", "case_statement"})
#: Nodes that are statements only in some positions.
_DECLARATIONS = frozenset({"declaration", "local_variable_declaration", "type_definition"})
_IN_BLOCKS = frozenset({"class_declaration", "switch_expression", "explicit_constructor_invocation"})


@dataclass(frozen=True, slots=True)
class Statement:
    """``span`` is half-open, in characters, and includes the closing marks of a lexed statement; ``kind`` is the
    grammar's name, such as ``if_statement``."""

    span: tuple[int, int]
    kind: str


@dataclass(frozen=True, slots=True)
class BodyStart:
    """Where a first statement is inserted: at ``byte``, before the node ``following`` if there is one; ``function`` is
    the enclosing definition, ``docstring`` its docstring (Python)."""

    byte: int
    following: Node | None
    function: Node
    docstring: Node | None = None


def collect(tree: Tree) -> list[Statement]:
    """All statements inside function bodies."""
    is_statement = _is_python_statement if tree.language == "python" else _is_statement
    collected: list[Statement] = []
    stack: list[tuple[Node, Node | None, bool]] = [(tree.root, None, False)]
    while stack:
        node, parent, inside = stack.pop()
        if inside and parent is not None and node.end_byte > node.start_byte and is_statement(node, parent):
            collected.append(Statement(_span(tree, node), node.type))
        inside = inside or node.type in _FUNCTIONS
        stack.extend((child, node, inside) for child in reversed(node.children) if child.child_count)
    return collected


def _span(tree: Tree, node: Node) -> tuple[int, int]:
    start, end = tree.span(node)
    if tree.unlexed is not None:
        opened = tree.text.count(INDENT, start, end) - tree.text.count(DEDENT, start, end)
        for _ in range(opened):
            if tree.text.startswith(f" {DEDENT}", end):
                end += len(DEDENT) + 1
    return start, end


def _is_python_statement(node: Node, parent: Node) -> bool:
    if parent.type != "block" or node.type == "case_clause" or node.is_error:
        return False
    return not (is_docstring(node) and bool(parent.named_children[0] == node))


def _is_statement(node: Node, parent: Node) -> bool:
    """Java or C."""
    kind = node.type
    if kind in _DECLARATIONS:
        return bool(parent.type != "for_statement")
    if kind in _IN_BLOCKS:
        return parent.type in _BLOCKS or parent.type in ("switch_block_statement_group", "labeled_statement")
    if kind in _BLOCKS or not kind.endswith("_statement") or (node.named_child_count == 0 and node.text == b";"):
        return False
    chained = parent.type == "else_clause" or (parent.type == "if_statement" and _is_alternative(node, parent))
    return not (kind == "if_statement" and chained)


def _is_alternative(node: Node, parent: Node) -> bool:
    alternative = parent.child_by_field_name("alternative")
    return alternative is not None and bool(alternative == node)


def is_docstring(statement: Node) -> bool:
    """Whether a statement is just a string: at the start of a body, its docstring."""
    return (
        statement.type == "expression_statement"
        and statement.child_count == 1
        and statement.children[0].type in ("string", "concatenated_string")
    )


def body_start(tree: Tree) -> BodyStart | None:
    """Where a first statement of the outermost function goes; None if no function has a body."""
    function = outermost(tree.skeleton.root)
    if function is None:
        return None
    body = function.child_by_field_name("body")
    first = [child for child in body.children if child.type not in COMMENTS and child.end_byte > child.start_byte]
    if tree.language == "python":
        if first and is_docstring(first[0]):
            rest = [child for child in first[1:] if child.is_named]
            following = rest[0] if rest else None
            return BodyStart(following.start_byte if following else first[0].end_byte, following, function, first[0])
        return BodyStart(first[0].start_byte, first[0], function) if first else None
    if not first or first[0].type != "{":
        return None
    if len(first) > 1 and first[1].type == "explicit_constructor_invocation":
        return BodyStart(first[1].end_byte, None, function)
    return BodyStart(first[0].end_byte, None, function)


def outermost(root: Node) -> Node | None:
    """The first function with a body."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.type in _FUNCTIONS and node.child_by_field_name("body") is not None:
            return node
        stack.extend(reversed(node.children))
    return None
