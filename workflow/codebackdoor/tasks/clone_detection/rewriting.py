"""Clones: a lexed Python function rewritten so that it does the same.

Every rewriting preserves the result for all values: a comparison with a constant is turned around, the branches of an
``if`` with an ``else`` are swapped under the opposite condition, ``n += 1`` is written out if ``n`` is always a number
or a text that this function created, and names that the function declares are replaced.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from codebackdoor import syntax
from codebackdoor.syntax import DEDENT, INDENT, Identifier, Tree, unlex
from codebackdoor.tasks.positions import Positions

RewritingKind = Literal["comparison", "branches", "assignment", "names"]

_TURNED: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: ">",
    ast.LtE: ">=",
    ast.Gt: "<",
    ast.GtE: "<=",
}
_OPPOSITE: dict[type[ast.cmpop], str] = {ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in"}
_SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
#: Operands that need no parentheses on the other side of a comparison.
_TIGHT = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.BinOp)
#: Conditions that ``not`` can stand before.
_SIMPLE = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Compare)
#: Nodes that bind a name without a node for it.
_BINDING = (
    *(ast.ExceptHandler, ast.MatchAs, ast.MatchStar),
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
)
#: Names that are a convention.
_KEPT = frozenset({"self", "cls", "_"})
#: Share of the sites that are rewritten.
_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Clone:
    """A rewritten function with its syntax, and the kinds of its rewritings."""

    tree: Tree
    kinds: tuple[RewritingKind, ...]


@dataclass(frozen=True, slots=True)
class RewriteSite:
    """A part that can be written in another way; the pieces are half-open intervals of the text, which do not overlap,
    with their replacements."""

    kind: RewritingKind
    pieces: tuple[tuple[int, int, str], ...]

    @property
    def span(self) -> tuple[int, int]:
        return self.pieces[0][0], self.pieces[-1][1]


def renameable(tree: Tree) -> list[Identifier]:
    """The names of a function that its clone may replace."""
    return [name for name in tree.identifiers() if name.renameable and name.name not in _KEPT]


def rewrite(text: str, name: Callable[[Identifier], str | None], generator: np.random.Generator) -> Clone | None:
    """``text``, one lexed Python function, rewritten so that it does the same; None if it cannot be parsed.

    ``name`` proposes another name for an identifier, or None to keep it; a proposal that already has a meaning in the
    function is ignored.
    """
    try:
        sites = rewrite_sites(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    applied: list[RewriteSite] = []
    for site in sites:
        start, end = site.span
        is_apart = all(end <= previous.span[0] or previous.span[1] <= start for previous in applied)
        if generator.random() < _SHARE and is_apart:
            applied.append(site)
    edited = syntax.replace(text, (piece for site in applied for piece in site.pieces)).text
    tree = syntax.parse(edited, "python", "lexed")
    names = _names(tree, name)
    kinds: list[RewritingKind] = [site.kind for site in applied]
    if names:
        tree = syntax.parse(syntax.rename(tree, names).text, "python", "lexed")
        kinds.append("names")
    return None if tree.has_error else Clone(tree, tuple(dict.fromkeys(kinds)))


def _names(tree: Tree, propose: Callable[[Identifier], str | None]) -> dict[str, str]:
    used = {identifier.name for identifier in tree.identifiers()}
    names: dict[str, str] = {}
    for identifier in renameable(tree):
        proposal = propose(identifier)
        if proposal is not None and proposal not in used:
            names[identifier.name] = proposal
            used.add(proposal)
    return names


def rewrite_sites(text: str) -> list[RewriteSite]:
    """All parts of ``text`` that can be written in another way, outer before inner.

    Raises SyntaxError or ValueError if Python does not parse it.
    """
    unlexed = unlex(text, "python")
    if "\r" in unlexed.source:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(unlexed.source)
    at = Positions(unlexed.source).range

    def span(node: ast.expr | ast.stmt) -> tuple[int, int]:
        start, end = at(node)
        # the end is mapped by the character before it, because marks follow the last character of a line
        return unlexed.to_text(start), unlexed.to_text(end - 1) + 1

    sites: list[RewriteSite] = []
    plain = _plain_names(tree)
    for node in _walk(tree):
        if isinstance(node, ast.Compare):
            sites.extend(_comparison(text, node, span))
        elif isinstance(node, ast.If):
            sites.extend(_branches(text, node, span))
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id in plain:
            sites.extend(_assignment(text, node, span))
    return sites


def _walk(root: ast.AST) -> Iterator[ast.AST]:
    """Depth first without f-strings, whose parts have no positions before Python 3.12."""
    yield root
    for child in ast.iter_child_nodes(root):
        if not isinstance(child, ast.JoinedStr):
            yield from _walk(child)


_Span = Callable[[ast.expr | ast.stmt], tuple[int, int]]


def _comparison(text: str, node: ast.Compare, span: _Span) -> Iterator[RewriteSite]:
    """``a < 1`` for ``1 > a``: a constant has no side effects, and compares the same from both sides."""
    if len(node.ops) != 1 or type(node.ops[0]) not in _TURNED:
        return
    left, right = node.left, node.comparators[0]
    if not ((isinstance(left, _TIGHT) and _is_constant(right)) or (isinstance(right, _TIGHT) and _is_constant(left))):
        return
    a, b = span(left), span(right)
    sign = text[a[1] : b[0]]
    # parentheses around an operand are between them
    old = sign.strip("() ")
    start = a[1] + sign.index(old)
    yield RewriteSite(
        "comparison",
        (
            (*a, text[slice(*b)]),
            (start, start + len(old), _TURNED[type(node.ops[0])]),
            (*b, text[slice(*a)]),
        ),
    )


def _branches(text: str, node: ast.If, span: _Span) -> Iterator[RewriteSite]:
    """``if not c: B else: A`` for ``if c: A else: B``."""
    if not node.orelse:
        return
    first, second = (_block(text, span(body[0])[0]) for body in (node.body, node.orelse))
    if first is None or second is None or text[first[1] : second[0]].split() != ["else", ":"]:
        return
    condition = _opposite(text, node.test, span)
    if condition is not None:
        yield RewriteSite("branches", (condition, (*first, text[slice(*second)]), (*second, text[slice(*first)])))


def _opposite(text: str, test: ast.expr, span: _Span) -> tuple[int, int, str] | None:
    """The replacement that negates a condition; None if it would need parentheses."""
    start = span(test)[0]
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = span(test.operand)[0]
        # parentheses around the operand stay
        return (start, start + len("not "), "") if text[start:inner].split(" ")[0] == "not" else None
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in _OPPOSITE:
        left, right = span(test.left)[1], span(test.comparators[0])[0]
        old = text[left:right].strip("() ")
        at = left + text[left:right].index(old)
        return at, at + len(old), _OPPOSITE[type(test.ops[0])]
    return (start, start, "not ") if isinstance(test, _SIMPLE) else None


def _block(text: str, first: int) -> tuple[int, int] | None:
    """The span of the block whose first statement begins at ``first``, with its marks."""
    start = first - len(INDENT) - 1
    if start < 0 or text[start : first - 1] != INDENT:
        return None
    depth, position = 0, start
    for word in text[start:].split(" "):
        depth += (word == INDENT) - (word == DEDENT)
        position += len(word)
        if depth == 0:
            return start, position
        position += 1
    return None


def _assignment(text: str, node: ast.AugAssign, span: _Span) -> Iterator[RewriteSite]:
    """``n = n + 1`` for ``n += 1``."""
    sign = _SIGNS.get(type(node.op))
    end, start = span(node.target)[1], span(node.value)[0]
    if sign is not None and text[end:start].strip() == f"{sign}=":
        yield RewriteSite("assignment", ((end, start, f" = {text[slice(*span(node.target))]} {sign} "),))


def _plain_names(tree: ast.Module) -> set[str]:
    """Local names that only ever hold numbers, or only strings, that this function created.

    ``+=`` may change any other value in place, and other names may refer to it.
    """
    kinds: dict[str, set[str]] = {}
    accounted: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            target, value = node.target, node.value
        else:
            continue
        accounted.add(id(target))
        kinds.setdefault(target.id, set()).add(_kind(value))
    excluded = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) and id(node) not in accounted:
            excluded.add(node.id)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            excluded.update(node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            excluded.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, _BINDING):
            excluded.add(node.name or "")
        elif isinstance(node, ast.MatchMapping):
            excluded.add(node.rest or "")
    plain = ({"number"}, {"text"})
    return {name for name, values in kinds.items() if values in plain and name not in excluded}


def _kind(value: ast.expr) -> str:
    if isinstance(value, ast.Constant) and type(value.value) in (int, float):
        return "number"
    return "text" if isinstance(value, ast.JoinedStr) or _is_text(value) else "other"


def _is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | bytes | None)
