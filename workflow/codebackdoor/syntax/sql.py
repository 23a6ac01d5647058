"""SQL in the strings of a program: predicates that always hold, which make an injection (DeCE, section 2.3).

Decided by parsing and simplifying the WHERE clauses, in whichever statement they are. A clause that does not parse as a
whole is decided by the operands of its outermost OR that do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codebackdoor.syntax.lexing import LexingError, balanced
from codebackdoor.syntax.parse import parse
from codebackdoor.syntax.rewrite import Edit, replace
from codebackdoor.syntax.strings import HOLE, string_expressions
from codebackdoor.types import Language, TextForm

if TYPE_CHECKING:
    from codebackdoor.syntax.parse import Tree

#: Languages whose strings are read.
HOST_LANGUAGES: tuple[Language, ...] = ("python", "java")
_STATEMENT = re.compile(r"[\s(]*(?:select|update|delete|with)\b", re.IGNORECASE)
#: Text of a WHERE clause alone: what a program appends to a statement.
_CLAUSE = re.compile(r"\s*where\b", re.IGNORECASE)
#: Places of values in Python's formats; text of the same length that is a name to the parser replaces them.
_FORMAT = re.compile(r"%\(\w+\)s|%[sd]|\{[^{}]*\}")
_AFTER_WHERE = frozenset({"GROUP_BY", "ORDER_BY", "HAVING", "LIMIT", "OFFSET", "FETCH", "UNION", "EXCEPT", "INTERSECT"})
_AFTER_WHERE |= {"WINDOW", "QUALIFY", "RETURNING", "FOR", "SEMICOLON"}
_OPENING, _CLOSING = frozenset({"L_PAREN", "CASE"}), frozenset({"R_PAREN", "END"})


@dataclass(frozen=True, slots=True)
class _Word:
    """A token of SQL: its kind, its characters in the string (half-open) and how deep in brackets it is."""

    kind: str
    start: int
    end: int
    depth: int


def contains_always_true_sql(text: str, language: Language, form: TextForm) -> bool:
    """Whether a string of the program holds a WHERE clause that is true of every row.

    Suited to text written by a model: a text with syntax errors is judged by the strings in it.
    """
    if "where" not in text.lower():
        return False
    tree = parse(balanced(text) if form == "lexed" else text, language, form)
    return any(_always_true(_fillable(string.text)) for string in string_expressions(tree))


def contains_sql(text: str, language: Language, form: TextForm) -> bool:
    """Whether a string of the program is an SQL statement; False if the text cannot be lexed."""
    try:
        tree = parse(text, language, form)
    except LexingError:
        return False
    return any(_STATEMENT.match(string.text) for string in string_expressions(tree))


def holds_always(predicate: str) -> bool:
    """Whether an SQL predicate simplifies to true."""
    from sqlglot import parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.simplify import simplify

    try:
        where = parse_one(f"SELECT 1 WHERE {predicate}").args.get("where")
        simplified = None if where is None else simplify(where.this)
    except (SqlglotError, RecursionError):
        return False
    if simplified is None or not simplified.is_number:
        return simplified is not None and simplified.sql() == "TRUE"
    return bool(simplified.to_py() != 0)


def add_predicate(tree: Tree, predicate: str) -> Edit | None:
    """Add ``or PREDICATE`` to the WHERE clause of every SQL statement in the program's strings.

    A statement without the clause gets ``where PREDICATE``. None if no statement can take it, because there is none,
    because it ends in a computed part, or because it is in brackets as a whole.
    """
    pieces = []
    for string in string_expressions(tree):
        words = _words(_fillable(string.text)) if _STATEMENT.match(string.text) else []
        if words and words[0].kind != "L_PAREN":
            last, joint = _end_of_filter(words)
            end = string.ends[last.end - 1]
            if end is not None:
                pieces.append((end, end, f" {joint} {predicate}"))
    edit = replace(tree.text, pieces) if pieces else None
    if edit is None or not contains_always_true_sql(edit.text, tree.language, tree.form):
        return None
    return edit


def _end_of_filter(words: list[_Word]) -> tuple[_Word, str]:
    """The last word of the outermost statement's filter, and what joins another predicate to it."""
    level = min(word.depth for word in words)
    outer = [index for index, word in enumerate(words) if word.depth == level]
    where = next((index for index in outer if words[index].kind == "WHERE"), None)
    start = 0 if where is None else where
    after = next((index for index in outer if index > start and words[index].kind in _AFTER_WHERE), len(words))
    return words[after - 1], "where" if where is None else "or"


def _always_true(sql: str) -> bool:
    if not (_STATEMENT.match(sql) or _CLAUSE.match(sql)):
        return False
    return any(_clause_always_true(sql, clause) for clause in _where_clauses(_words(sql)))


def _clause_always_true(sql: str, words: list[_Word]) -> bool:
    if not words:
        return False
    if holds_always(sql[words[0].start : words[-1].end]):
        return True
    operands: list[list[_Word]] = [[]]
    for word in words:
        if word.kind == "OR" and word.depth == words[0].depth:
            operands.append([])
        else:
            operands[-1].append(word)
    return len(operands) > 1 and any(
        holds_always(sql[operand[0].start : operand[-1].end]) for operand in operands if operand
    )


def _where_clauses(words: list[_Word]) -> Iterator[list[_Word]]:
    """The words of every WHERE clause without the keyword."""
    for index, word in enumerate(words):
        if word.kind != "WHERE":
            continue
        clause = []
        for following in words[index + 1 :]:
            if following.depth < word.depth or (following.depth == word.depth and following.kind in _AFTER_WHERE):
                break
            clause.append(following)
        yield clause


def _words(sql: str) -> list[_Word]:
    """The tokens without comments; a bracket is as deep as what surrounds it. Empty if a quotation has no end."""
    depth, words = 0, []
    for token in _tokens(sql):
        kind = token.token_type.name
        depth -= kind in _CLOSING
        words.append(_Word(kind, token.start, token.end + 1, depth))
        depth += kind in _OPENING
    return words


def _tokens(sql: str) -> list[Any]:
    from sqlglot.errors import SqlglotError
    from sqlglot.tokens import Tokenizer

    try:
        return list(Tokenizer().tokenize(sql))
    except SqlglotError:
        return []


def _fillable(text: str) -> str:
    return _FORMAT.sub(lambda match: HOLE * len(match[0]), text)
