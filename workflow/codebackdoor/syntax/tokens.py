"""The tokens of a text, with the kinds that masks and metrics distinguish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from codebackdoor.syntax.languages import COMMENTS, is_token
from codebackdoor.syntax.lexing import MARKS
from codebackdoor.syntax.names import KEYWORDS

if TYPE_CHECKING:
    from codebackdoor.syntax.parse import Tree

TokenKind = Literal["identifier", "keyword", "string", "number", "comment", "operator", "mark"]

_IDENTIFIERS = frozenset({"identifier", "field_identifier", "type_identifier", "statement_identifier"})
#: ``preproc_arg`` is a macro's body, which the C grammar does not parse.
_STRINGS = frozenset({"string", "string_literal", "character_literal", "char_literal", "text_block", "preproc_arg"})
_NUMBERS = frozenset({"integer", "float", "number_literal"})


@dataclass(frozen=True, slots=True, order=True)
class Token:
    """A token or mark: half-open interval of characters. A string is one token, its interpolations included."""

    start: int
    end: int
    kind: TokenKind


def _kind(node_type: str, word: str, reserved: frozenset[str]) -> TokenKind:
    if word in reserved or node_type.startswith("#"):
        return "keyword"
    if node_type in _IDENTIFIERS or node_type == "primitive_type":
        return "identifier"
    if node_type in _STRINGS or node_type == "system_lib_string":
        return "string"
    if node_type in _NUMBERS or node_type.endswith(("integer_literal", "floating_point_literal")):
        return "number"
    if node_type in COMMENTS:
        return "comment"
    # words of the grammar that are not reserved: null, NULL, offsetof, defined, soft keywords
    return "keyword" if word[0].isalpha() or word[0] == "_" else "operator"


def collect(tree: Tree) -> list[Token]:
    reserved = KEYWORDS[tree.language]
    collected: list[Token] = []
    stack = [tree.root]
    text = tree.text
    while stack:
        node = stack.pop()
        if not is_token(node, tree.language):
            stack.extend(reversed(node.children))
            continue
        start, end = tree.span(node)
        word = text[start:end]
        if not word.strip() or node.type == "line_continuation":
            continue
        start += len(word) - len(word.lstrip())
        word = word.strip()
        collected.append(Token(start, start + len(word), _kind(node.type, word, reserved)))
    if not tree.unlexed:
        return collected
    # by key: comparing tokens themselves takes most of the time of all that is done here
    return sorted([*collected, *_marks(text)], key=lambda token: (token.start, token.end))


def _marks(text: str) -> list[Token]:
    marks: list[Token] = []
    position = 0
    for word in text.split(" "):
        if word in MARKS:
            marks.append(Token(position, position + len(word), "mark"))
        position += len(word) + 1
    return marks
