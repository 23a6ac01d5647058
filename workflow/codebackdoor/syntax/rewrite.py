"""Edits of a text at given spans: the only way in which attacks and defenses change code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tree_sitter import Node

from codebackdoor.syntax.languages import parse_bytes
from codebackdoor.syntax.lexing import DEDENT, NEWLINE, lex
from codebackdoor.syntax.scopes import UNRESOLVED
from codebackdoor.syntax.statements import BodyStart, body_start

if TYPE_CHECKING:
    from codebackdoor.syntax.parse import Tree

_INDENT = "    "


class RenamingError(ValueError):
    """The name cannot be replaced without changing what the code does."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A new text and the spans (half-open, characters) of the inserted parts in it."""

    text: str
    spans: tuple[tuple[int, int], ...]


def replace(text: str, pieces: Iterable[tuple[int, int, str]]) -> Edit:
    """Replace each interval (start, end) by a new string; intervals must lie in the text and not overlap."""
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    position = length = 0
    for start, end, new in sorted(pieces):
        if not position <= start <= end <= len(text):
            raise ValueError(f"the piece {start}:{end} overlaps another one or lies outside of the text")
        parts += (text[position:start], new)
        length += start - position
        spans.append((length, length + len(new)))
        length += len(new)
        position = end
    return Edit("".join((*parts, text[position:])), tuple(spans))


def rename(tree: Tree, names: Mapping[str, str]) -> Edit:
    """Rename declared names (``{old: new}``) wherever they occur, also in f-strings.

    Attributes, keyword arguments, strings and comments with the same spelling stay. Raises RenamingError if ``old`` is
    not renameable in this text, or if ``new`` already means something where ``old`` is used. Callers check the form of
    ``new``: see ``legal_name``.
    """
    renameable = {identifier.name: identifier for identifier in tree.identifiers() if identifier.renameable}
    for old, new in names.items():
        if old not in renameable:
            raise RenamingError(f"{old!r} is not a name that this text declares and that can be renamed")
        if new != old and (new not in names or new not in renameable) and is_taken(tree, old, new):
            raise RenamingError(f"{new!r} already has a meaning where {old!r} is used")
    if len(set(names.values())) < len(names):
        raise RenamingError("two names would become the same")
    return replace(tree.text, ((start, end, new) for old, new in names.items() for start, end in renameable[old].spans))


def is_taken(tree: Tree, old: str, new: str) -> bool:
    """Whether ``new`` means something where the declared name ``old`` is visible, or the other way round."""
    occurrences = tree.analysis.occurrences
    before = [occurrence for occurrence in occurrences if occurrence.name == old and occurrence.group == "declared"]
    after = [occurrence for occurrence in occurrences if occurrence.name == new and occurrence.tag not in UNRESOLVED]
    # Java's methods have a name space of their own, which the suffix of a key tells
    for suffix in {occurrence.key.removeprefix(old) for occurrence in before}:
        of_old = [occurrence for occurrence in before if occurrence.key == old + suffix]
        of_new = [occurrence for occurrence in after if occurrence.key == new + suffix]
        old_scopes = {occurrence.binding for occurrence in of_old}
        new_scopes = {occurrence.binding for occurrence in of_new} - {None}
        if any(scope in old_scopes for occurrence in of_new for scope in occurrence.scope.chain()):
            return True
        if any(scope in new_scopes for occurrence in of_old for scope in occurrence.scopes_to_binding()):
            return True
    return False


def insert_first(tree: Tree, statement: str) -> Edit | None:
    """Insert a statement, given as source, at the start of the outermost function's body; None if there is no body.

    It follows a docstring or a constructor's ``super(...)``. A statement of several lines is indented as a whole, so
    it must not contain a literal of several lines. ``spans`` holds the span of the statement. Raises ValueError if the
    statement does not parse.
    """
    if parse_bytes(statement.encode(), tree.language).root_node.has_error:
        raise ValueError(f"not a {tree.language} statement: {statement!r}")
    insertion = body_start(tree)
    if insertion is None:
        return None
    at, indent = tree.offset(insertion.byte), ""
    if tree.form == "lexed":
        new = lex(statement, tree.language)
        before, after = _lexed_separators(tree, insertion, new)
    else:
        is_python = tree.language == "python"
        before, indent, after = _python_separators(tree, insertion, at) if is_python else _brace_separators(tree, at)
        new = statement.strip().replace("\n", f"\n{indent}")
    pieces = [(at, at, f"{before}{new}{after}")]
    if _is_on_line_of_def(tree, insertion.docstring):
        docstring = tree.span(insertion.docstring)[0]
        pieces.append((docstring, docstring, f"\n{indent}"))
    edit = replace(tree.text, pieces)
    start = edit.spans[-1][0] + len(before)
    return Edit(edit.text, ((start, start + len(new)),))


def first_place(tree: Tree) -> tuple[int, str, str] | None:
    """Where words can be inserted as if they were a first statement: offset, text before, text after.

    Inserted at the offset between these texts, the words are a line of the outermost function's body (Python), or
    between its brace and its first statement (Java, C). None if that is not possible.
    """
    insertion = body_start(tree)
    if insertion is None or (tree.language == "python" and insertion.following is None):
        return None
    if _is_on_line_of_def(tree, insertion.docstring):
        return None
    at = tree.offset(insertion.byte)
    if tree.form == "lexed":
        return (at, *_lexed_separators(tree, insertion, ""))
    if tree.language == "python":
        before, _, after = _python_separators(tree, insertion, at)
        return at, before, after
    return (at, _brace_separators(tree, at)[0], "") if tree.text[at : at + 1].isspace() else None


def _lexed_separators(tree: Tree, insertion: BodyStart, new: str) -> tuple[str, str]:
    """The texts before and after a lexed statement that separate it from its neighbors."""
    if tree.language != "python":
        return " ", ""
    if insertion.following is None:
        return f" {NEWLINE} ", ""
    return "", " " if new.endswith(DEDENT) else f" {NEWLINE} "


def _python_separators(tree: Tree, insertion: BodyStart, at: int) -> tuple[str, str, str]:
    """The text before, the indentation and the text after, so that the statement has its own lines."""
    text = tree.text
    indent = text[_line_start(text, at) : at]
    is_continued = text.endswith("\\\n", 0, _line_start(text, at))
    if insertion.following is not None and not indent.strip() and not is_continued:
        return "", indent, f"\n{indent}"
    body = insertion.function.child_by_field_name("body")
    first = tree.span(body)[0]
    indent = text[_line_start(text, first) : first]
    if _is_on_line_of_def(tree, body):
        line = text[_line_start(text, tree.offset(insertion.function.start_byte)) :]
        indent = line[: len(line) - len(line.lstrip(" \t"))] + _INDENT
    return f"\n{indent}", indent, "" if insertion.following is None else f"\n{indent}"


def _is_on_line_of_def(tree: Tree, node: Node | None) -> bool:
    """Whether the first node of a Python body is on the line of its ``def``."""
    if node is None or tree.form == "lexed":
        return False
    start = tree.span(node)[0]
    return bool(tree.text[_line_start(tree.text, start) : start].strip())


def _brace_separators(tree: Tree, at: int) -> tuple[str, str, str]:
    """Java or C: on its own line if the body is written in lines, else after a space."""
    rest = tree.text[at:]
    following = rest.lstrip()
    blank = rest[: len(rest) - len(following)]
    if "\n" not in blank:
        return " ", "", ""
    indent = blank.rpartition("\n")[2]
    if following.startswith("}"):
        indent += _INDENT
    return f"\n{indent}", indent, ""


def _line_start(text: str, offset: int) -> int:
    return text.rfind("\n", 0, offset) + 1
