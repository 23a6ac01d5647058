"""Code-smell detection: linguistic antipatterns, that is, names that promise something other than what the code does.

The catalog is that of Arnaoudova et al. (2013), of which Fakhoury et al. (2018) collected examples (DeCE, section 6.1).
Local scale: a function gets the name of a getter or a setter. A getter that returns nothing is a smell (B3), as is a
setter that returns something (A3). Both versions of each function are rows, so that classes are paired and balanced,
and neither the name nor the body alone tells them apart.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codebackdoor import syntax
from codebackdoor.tasks.base import OneFunctionTask, RowGroup
from codebackdoor.tasks.baselines import never, ngrams
from codebackdoor.types import Example

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.corpora.mining import MinedFunction
    from codebackdoor.tasks.code_smell.settings import CodeSmell

_VERBS = ("get", "set")


class CodeSmellTask(OneFunctionTask):
    unusable = "no_getter_or_setter"

    def group(
        self,
        function: MinedFunction,
        settings: CodeSmell,  # noqa: ARG002
        generator: np.random.Generator,
    ) -> RowGroup | None:
        returns = returns_value(syntax.unlex(function.code, "python").source)
        if returns is None:
            return None
        fitting, smelly = _VERBS if returns else _VERBS[::-1]
        texts = [renamed(function.code, verb) for verb in (fitting, smelly)]
        if None in texts:
            return None
        rows = tuple(
            Example(generator.bytes(8).hex(), "python", str(text), label=label) for label, text in enumerate(texts)
        )
        kind = "setter_returns" if returns else "getter_returns_nothing"
        return RowGroup(rows, f"{function.package} {function.version}", (function.id,), (kind,))

    def baseline(
        self,
        train: Sequence[Example],
        test: Sequence[Example],
        settings: CodeSmell,  # noqa: ARG002
    ) -> dict[str, Any]:
        return ngrams(train, test) | {"never": never(test)}


def returns_value(source: str) -> bool | None:
    """Whether a Python function returns a value; None if that is not clear.

    It is unclear for generators and coroutines, for functions that only return None, and for those that only raise.
    """
    (function,) = ast.parse(source).body
    if not isinstance(function, ast.FunctionDef):
        return None
    nodes = list(_own_nodes(function))
    if any(isinstance(node, ast.Yield | ast.YieldFrom | ast.Await) for node in nodes):
        return None
    values = [node.value for node in nodes if isinstance(node, ast.Return) and node.value is not None]
    if not values:
        return None if isinstance(function.body[-1], ast.Raise | ast.Pass) else False
    return None if all(isinstance(value, ast.Constant) and value.value is None for value in values) else True


def _own_nodes(function: ast.FunctionDef) -> list[ast.AST]:
    """The nodes of a body without those of functions inside it."""
    nodes: list[ast.AST] = []
    stack: list[ast.AST] = [*function.body]
    while stack:
        node = stack.pop()
        nodes.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            stack.extend(ast.iter_child_nodes(node))
    return nodes


def renamed(code: str, verb: str) -> str | None:
    """The function with ``verb`` at the beginning of its name, in place of ``get`` or ``set`` if it has one."""
    tree = syntax.parse(code, "python", "lexed")
    name = tree.function_name()
    if name is None or not name.renameable or name.name.startswith("__"):
        return None
    words = [word for word in name.name.strip("_").split("_") if word]
    rest = words[1:] if words and words[0] in _VERBS else words
    new = "_".join((verb, *rest))
    if new == name.name:
        return code
    try:
        return syntax.rename(tree, {name.name: new}).text if rest else None
    except syntax.RenamingError:
        return None


TASK = CodeSmellTask()
