"""Rewriting a text at known places: the attacks' and the defenses' only way to change code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tree_sitter import Node

from codebackdoor.syntax.languages import parse_bytes
from codebackdoor.syntax.lexing import DEDENT, NEWLINE, lex
from codebackdoor.syntax.scopes import UNRESOLVED
from codebackdoor.syntax.statements import Insertion, insertion

if TYPE_CHECKING:
    from codebackdoor.syntax.parse import Tree

_INDENT = "    "


class RenamingError(ValueError):
    """The name cannot be replaced without changing what the code does."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A new text and the places in it (half-open, characters) of what was put there."""

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
    """Rename declared names (``{old: new}``) at all their places, those in f-strings included.

    Attributes, keyword arguments, strings and comments of the same spelling stay. Raises RenamingError where ``old``
    is not renameable in this text, or ``new`` already means something where ``old`` is used. The form of ``new`` is
    the caller's affair: see ``legal_name``.
    """
    renameable = {one.name: one for one in tree.identifiers() if one.renameable}
    for old, new in names.items():
        if old not in renameable:
            raise RenamingError(f"{old!r} is no name that this text declares and that can be renamed")
        if new != old and (new not in names or new not in renameable) and is_taken(tree, old, new):
            raise RenamingError(f"{new!r} already has a meaning where {old!r} is used")
    if len(set(names.values())) < len(names):
        raise RenamingError("two names would become the same")
    return replace(tree.text, ((start, end, new) for old, new in names.items() for start, end in renameable[old].spans))


def is_taken(tree: Tree, old: str, new: str) -> bool:
    """Whether ``new`` means something where the declared name ``old`` is visible, or the other way round."""
    occurrences = tree.analysis.occurrences
    before = [one for one in occurrences if one.name == old and one.group == "own"]
    after = [one for one in occurrences if one.name == new and one.tag not in UNRESOLVED]
    for suffix in {one.key.removeprefix(old) for one in before}:  # Java's methods have a name space of their own
        mine = [one for one in before if one.key == old + suffix]
        theirs = [one for one in after if one.key == new + suffix]
        homes, others = {one.binding for one in mine}, {one.binding for one in theirs} - {None}
        if any(scope in homes for one in theirs for scope in one.scope.chain()):
            return True
        if any(scope in others for one in mine for scope in one.way()):
            return True
    return False


def insert_first(tree: Tree, statement: str) -> Edit | None:
    """Put a statement, given as source, first into the outermost function's body; ``None`` if there is no body.

    It goes after a docstring and after a constructor's ``super(...)``. Several lines are indented as a whole, so they
    must not hold a literal of several lines. ``spans`` has one place, the statement itself. Raises ValueError where
    the statement does not parse.
    """
    if parse_bytes(statement.encode(), tree.language).root_node.has_error:
        raise ValueError(f"not a {tree.language} statement: {statement!r}")
    place = insertion(tree)
    if place is None:
        return None
    at, indent = tree.offset(place.byte), ""
    if tree.form == "lexed":
        new = lex(statement, tree.language)
        before, after = _around_lexed(tree, place, new)
    else:
        before, indent, after = _around_python(tree, place, at) if tree.language == "python" else _around(tree, at)
        new = statement.strip().replace("\n", f"\n{indent}")
    pieces = [(at, at, f"{before}{new}{after}")]
    if _is_on_line_of_def(tree, place.docstring):
        docstring = tree.span(place.docstring)[0]
        pieces.append((docstring, docstring, f"\n{indent}"))
    edit = replace(tree.text, pieces)
    start = edit.spans[-1][0] + len(before)
    return Edit(edit.text, ((start, start + len(new)),))


def first_place(tree: Tree) -> tuple[int, str, str] | None:
    """Where words may stand that take a first statement's place without being one: offset, text before, text after.

    The words and these texts, put in at the offset, are a line of the outermost function's body (Python), or stand
    between its brace and its first statement (Java, C). ``None`` where there is no such place.
    """
    place = insertion(tree)
    if place is None or (tree.language == "python" and place.following is None):
        return None
    if _is_on_line_of_def(tree, place.docstring):
        return None
    at = tree.offset(place.byte)
    if tree.form == "lexed":
        return (at, *_around_lexed(tree, place, ""))
    if tree.language == "python":
        before, _, after = _around_python(tree, place, at)
        return at, before, after
    return (at, _around(tree, at)[0], "") if tree.text[at : at + 1].isspace() else None


def _around_lexed(tree: Tree, place: Insertion, new: str) -> tuple[str, str]:
    """What separates a lexed statement from its neighbours."""
    if tree.language != "python":
        return " ", ""
    if place.following is None:
        return f" {NEWLINE} ", ""
    return "", " " if new.endswith(DEDENT) else f" {NEWLINE} "


def _around_python(tree: Tree, place: Insertion, at: int) -> tuple[str, str, str]:
    """Before, indentation, after: on lines of their own, in the body's indentation."""
    text = tree.text
    indent = text[_line_start(text, at) : at]
    is_continued = text.endswith("\\\n", 0, _line_start(text, at))
    if place.following is not None and not indent.strip() and not is_continued:
        return "", indent, f"\n{indent}"
    body = place.function.child_by_field_name("body")
    first = tree.span(body)[0]
    indent = text[_line_start(text, first) : first]
    if _is_on_line_of_def(tree, body):
        line = text[_line_start(text, tree.offset(place.function.start_byte)) :]
        indent = line[: len(line) - len(line.lstrip(" \t"))] + _INDENT
    return f"\n{indent}", indent, "" if place.following is None else f"\n{indent}"


def _is_on_line_of_def(tree: Tree, node: Node | None) -> bool:
    """Whether a first node of a Python body stands behind the colon of its ``def``, and on no line of its own."""
    if node is None or tree.form == "lexed":
        return False
    start = tree.span(node)[0]
    return bool(tree.text[_line_start(tree.text, start) : start].strip())


def _around(tree: Tree, at: int) -> tuple[str, str, str]:
    """Java or C: on a line of its own where the body is written in lines, else behind a space."""
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
