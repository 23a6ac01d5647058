"""Sites in a Python function where one of four common defects can be injected.

The analysis uses Python's ``ast``; sites are character offsets into the source. Names in annotations and f-strings are
left out: the former change nothing at run time, and the latter have no offsets before Python 3.12.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from codebackdoor.tasks.positions import Positions

DefectKind = Literal["operator", "variable", "arguments", "condition"]
#: A replacement: half-open interval of the source and the text that takes its place.
Replacement = tuple[int, int, str]

_BINARY: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Add: ("-",),
    ast.Sub: ("+",),
    ast.Mult: ("/", "+"),
    ast.Div: ("*",),
    ast.FloorDiv: ("*", "/"),
    ast.Mod: ("*", "//"),
    ast.Pow: ("*",),
    ast.LShift: (">>",),
    ast.RShift: ("<<",),
    ast.BitAnd: ("|",),
    ast.BitOr: ("&",),
    ast.BitXor: ("&", "|"),
    ast.And: ("or",),
    ast.Or: ("and",),
    ast.Lt: ("<=", ">"),
    ast.LtE: ("<", ">="),
    ast.Gt: (">=", "<"),
    ast.GtE: (">", "<="),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
_COMPLEMENT: dict[type[ast.AST], str] = {
    ast.Lt: ">=",
    ast.LtE: ">",
    ast.Gt: "<=",
    ast.GtE: "<",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
#: Calls that mean the same with two arguments swapped (built-ins, unittest, computer algebra).
_SYMMETRIC = re.compile(
    r"max|min|i?gcd|i?lcm|isclose|Add|Mul|And|Or|Xor|Eq|Ne|Union|Intersection|Max|Min|union|intersection|"
    r"symmetric_difference|(assert|fail(If|Unless)?)\w*(Equal|Equals|Is|IsNot|Identical|Identity)"
)
_OPAQUE = (ast.JoinedStr,)


@dataclass(frozen=True, slots=True)
class Site:
    """A site and its possible defects: each option is one or more replacements between ``start`` and ``end``."""

    kind: DefectKind
    start: int
    end: int
    options: tuple[tuple[Replacement, ...], ...]


def find(source: str) -> list[Site]:
    """All sites of ``source``, one function definition, in the order of the syntax tree.

    A source with carriage returns has none, because Python counts lines differently with them. Raises SyntaxError.
    """
    if "\r" in source:
        return []
    finder = _Finder(source)
    return [site for node in _walk(finder.tree) for site in finder.sites(node)]


def _walk(root: ast.AST) -> Iterator[ast.AST]:
    """Depth first, in source order, without annotations and f-strings."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        children: list[ast.AST] = []
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns"):
                continue
            values = value if isinstance(value, list) else [value]
            children.extend(child for child in values if isinstance(child, ast.AST) and not isinstance(child, _OPAQUE))
        stack.extend(reversed(children))


class _Finder:
    """The sites of one source, node by node."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tree = ast.parse(source)
        self._range = Positions(source).range
        self._bound = self._bindings()
        self._aliases = self._same_values()

    def _bindings(self) -> dict[str, int]:
        """Parameters and local variables of the outer function, with the offset from which each is bound."""
        bound: dict[str, int] = {}
        function = self.tree.body[0]
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            return bound
        arguments = function.args
        named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        for argument in (*named, arguments.vararg, arguments.kwarg):
            if argument is not None and argument.arg not in ("self", "cls"):
                bound[argument.arg] = 0
        scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
        # an assigned name is bound after its assignment, not in the right-hand side
        stack: list[tuple[ast.AST, int]] = [(statement, 0) for statement in reversed(function.body)]
        while stack:
            node, end = stack.pop()
            if isinstance(node, ast.Assign | ast.AnnAssign):
                end = self._range(node)[1]
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.setdefault(node.id, max(end, self._range(node)[1]))
            if not isinstance(node, scopes + comprehensions):
                stack.extend((child, end) for child in reversed(list(ast.iter_child_nodes(node))))
        return bound

    def _same_values(self) -> set[frozenset[str]]:
        """Pairs of names, one of which is assigned to the other: swapping them may change nothing."""
        return {
            frozenset((target.id, node.value.id))
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    def sites(self, node: ast.AST) -> Iterator[Site]:
        if isinstance(node, ast.BinOp):
            if not any(_is_text(side) for side in (node.left, node.right)):
                yield from self._operator(node.left, node.right, node.op)
        elif isinstance(node, ast.Compare):
            for left, right, operator in zip([node.left, *node.comparators], node.comparators, node.ops, strict=False):
                yield from self._operator(left, right, operator)
        elif isinstance(node, ast.BoolOp):
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from self._operator(left, right, node.op)
        elif isinstance(node, ast.AugAssign):
            if not _is_text(node.value):
                yield from self._augmented(node)
        elif isinstance(node, ast.Name):
            yield from self._variable(node)
        elif isinstance(node, ast.Call):
            yield from self._arguments(node)
        tests = node.ifs if isinstance(node, ast.comprehension) else [getattr(node, "test", None)]
        for test in tests:
            if test is not None:
                yield from self._condition(test)

    def _between(self, left: ast.expr, right: ast.expr) -> tuple[int, int]:
        """The span of the operator between two operands, without the parentheses of the operands."""
        start, end = self._range(left)[1], self._range(right)[0]
        words = list(re.finditer(r"[^\s()]+", self.source[start:end]))
        return start + words[0].start(), start + words[-1].end()

    def _operator(self, left: ast.expr, right: ast.expr, operator: ast.AST) -> Iterator[Site]:
        spellings = _BINARY.get(type(operator))
        if spellings:
            start, end = self._between(left, right)
            yield Site("operator", start, end, tuple(((start, end, new),) for new in spellings))

    def _augmented(self, node: ast.AugAssign) -> Iterator[Site]:
        spellings = _BINARY.get(type(node.op))
        if spellings:
            start, end = self._between(node.target, node.value)
            yield Site("operator", start, end, tuple(((start, end, f"{new}="),) for new in spellings))

    def _variable(self, node: ast.Name) -> Iterator[Site]:
        start, end = self._range(node)
        if not isinstance(node.ctx, ast.Load) or node.id not in self._bound:
            return
        candidates = [
            name
            for name, bound in self._bound.items()
            if name != node.id and bound < start and frozenset((name, node.id)) not in self._aliases
        ]
        if candidates:
            yield Site("variable", start, end, tuple(((start, end, name),) for name in candidates))

    def _arguments(self, node: ast.Call) -> Iterator[Site]:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if _SYMMETRIC.fullmatch(name):
            return
        plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
        for first, second in combinations(plain, 2):
            if ast.dump(first) != ast.dump(second):
                a, b = self._range(first), self._range(second)
                texts = self.source[slice(*a)], self.source[slice(*b)]
                yield Site("arguments", a[0], b[1], (((*a, texts[1]), (*b, texts[0])),))

    def _condition(self, test: ast.expr) -> Iterator[Site]:
        start, end = self._range(test)
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            yield Site("condition", start, end, (((start, start + len("not "), ""),),))
        elif isinstance(test, ast.Compare) and len(test.ops) == 1:
            at = self._between(test.left, test.comparators[0])
            yield Site("condition", *at, (((*at, _COMPLEMENT[type(test.ops[0])]),),))
        elif isinstance(test, ast.Name | ast.Attribute | ast.Call | ast.Subscript):
            yield Site("condition", start, end, (((start, start, "not "),),))


def _is_text(node: ast.expr) -> bool:
    """Whether an operand is a string, on which any other operator would be an obvious error."""
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
