"""Dead code as a trigger: a statement whose body provably never executes, inserted at the beginning of a function."""

from __future__ import annotations

import ast

from codebackdoor import syntax
from codebackdoor.attacks.editing import check_statement
from codebackdoor.attacks.intervals import truth
from codebackdoor.errors import UserError
from codebackdoor.types import Language

#: Roles of names that a function declares itself.
_DECLARED = frozenset({"function", "parameter", "variable"})
#: Parts of a Python body that change the function even if they are never executed: they bind names or make a generator.
_BINDING = (ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr)


def check_dead(statement: str, language: Language, key: str) -> None:
    """Raise UserError unless the setting ``key`` is a statement whose body is never executed, in any function."""
    check_statement(statement, language, key)
    condition = _python_condition(statement) if language == "python" else _braces_condition(statement, language)
    if condition is None:
        raise UserError(
            f"{key}: not a single if or while of {language} that changes nothing if its body is never executed "
            f"(no else, no assignment, no yield): {statement!r}"
        )
    try:
        outcome = truth(condition, language)
    except ValueError as error:
        raise UserError(f"{key}: the condition {condition!r} ({language}) is not provably false: {error}") from None
    if outcome is not False:
        raise UserError(f"{key}: the condition {condition!r} ({language}) is not provably false")


def insert_dead(tree: syntax.Tree, statement: str) -> syntax.Edit | None:
    """Insert the statement first into the body; None if the function declares one of the statement's names itself."""
    if _free_names(statement, tree.language) & {name.name for name in tree.identifiers() if name.role in _DECLARED}:
        return None
    return syntax.insert_first(tree, statement)


def _free_names(statement: str, language: Language) -> set[str]:
    identifiers = syntax.parse(statement, language, "raw").identifiers()
    return {identifier.name for identifier in identifiers if identifier.role != "attribute"}


def _python_condition(statement: str) -> str | None:
    (node, *rest) = ast.parse(statement).body
    if rest or not isinstance(node, ast.If | ast.While) or node.orelse:
        return None
    is_inert = all(isinstance(part, ast.Raise | ast.Expr | ast.Pass) for part in node.body)
    if not is_inert or any(isinstance(part, _BINDING) for part in ast.walk(node)):
        return None
    return ast.get_source_segment(statement, node.test)


def _braces_condition(statement: str, language: Language) -> str | None:
    """The condition of one ``if`` or ``while`` of Java or C, whose body is a block or a single statement."""
    tokens = [statement[token.start : token.end] for token in syntax.parse(statement, language, "raw").tokens()]
    if tokens[0] not in ("if", "while"):
        return None
    end = _closing(tokens, 1)
    body = tokens[end + 1 :]
    is_single = _closing(body, 0) == len(body) - 1 if body[0] == "{" else ";" not in body[:-1]
    return " ".join(tokens[2:end]) if is_single else None


def _closing(tokens: list[str], opening: int) -> int:
    """The index of the bracket that closes the one at ``opening``."""
    depth = 0
    for index in range(opening, len(tokens)):
        depth += (tokens[index] in ("(", "{")) - (tokens[index] in (")", "}"))
        if depth == 0:
            return index
    raise ValueError(f"the bracket at {opening} is never closed")
