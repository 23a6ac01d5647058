"""What the readers of function-level benchmarks share: prompts, and functions in Python source."""

from __future__ import annotations

import ast


def function_in(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    """The definition of a function at the top of a module; the last one, if there are several."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return functions[-1] if functions else None


def signature_of(function: ast.FunctionDef) -> str:
    """The first line of a function, on one line and without decorators."""
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"def {function.name}({ast.unparse(function.args)}){returns}:"


def prompt(signature: str, description: str) -> str:
    """What a victim reads: the signature, then the description on one line."""
    return f"{signature} {' '.join(description.split())}"
