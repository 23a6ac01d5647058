"""Lines by syntax, in either text form: a simple statement, or the header of a compound one.

A text is divided where a statement or a block begins or ends, so that ``if x:``, ``else:``, a decorator, a docstring, a
case label or the signature of a function are lines, wherever the text breaks. Braces around blocks, layout marks and
comments belong to no line.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import groupby

from tree_sitter import Node

from codebackdoor.syntax.lexing import DEDENT, NEWLINE
from codebackdoor.syntax.parse import Tree

#: Bodies of statements and definitions, in Python, Java and C.
_BLOCKS = frozenset({"block", "constructor_body", "class_body", "enum_body", "interface_body", "switch_block"})
_BLOCKS |= {"compound_statement", "decorator"}


def lines(tree: Tree) -> list[tuple[int, int]]:
    """The lines of a text, in order, as half-open intervals of characters without surrounding layout."""
    cuts = {offset for statement in tree.statements() for offset in statement.span}
    braces: set[int] = set()
    for block in _blocks(tree.root):
        cuts.update(tree.span(block))
        for child in block.children:
            if child.type in ("{", "}"):
                start, end = tree.span(child)
                braces.add(start)
                cuts.update((start, end))
    edges = sorted(cuts)
    tokens = [token for token in tree.tokens() if token.kind not in ("mark", "comment") and token.start not in braces]
    parts = (list(part) for _, part in groupby(tokens, lambda token: bisect_right(edges, token.start)))
    spans = ((part[0].start, part[-1].end) for part in parts)
    # a semicolon between statements
    return [(start, end) for start, end in spans if tree.text[start:end] != ";"]


def _blocks(root: Node) -> list[Node]:
    stack, blocks = [root], []
    while stack:
        node = stack.pop()
        if node.type in _BLOCKS:
            blocks.append(node)
        stack.extend(child for child in node.children if child.child_count)
    return blocks


def without_line(tree: Tree, line: tuple[int, int]) -> str:
    """The text without a line and without the layout that separates it from the next line (of the last: the previous).

    A block whose header is removed stays where it is, so the result need not parse.
    """
    text, (start, end) = tree.text, line
    if tree.form == "lexed":
        before, after = text[:start].rstrip(" "), text[end:].lstrip(" ")
        if tree.language == "python":
            if after.startswith(NEWLINE):
                after = after.removeprefix(NEWLINE).lstrip(" ")
            elif not after or after.startswith(DEDENT):
                before = before.removesuffix(NEWLINE).rstrip(" ")
        return f"{before} {after}".strip(" ")
    before, after = text[:start].rstrip(" \t"), text[end:].lstrip(" \t")
    if not before or before.endswith("\n"):
        # nothing else is on its lines
        if not after or after.startswith("\n"):
            return before + after.removeprefix("\n")
        return text[:start] + after
    return before + after if not after or after.startswith("\n") else f"{before} {after}"
