"""The lexed text form: tokens joined by single spaces, so that an identifier always looks the same.

Comments, docstrings and layout are dropped. Python's layout becomes three marks: ``<indent>`` opens a block,
``<dedent>`` closes it, ``<nl>`` separates simple statements on one level. C keeps ``<nl>`` around preprocessor lines.
``unlex`` turns a lexed text back into source and maps every offset back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Node

from codebackdoor.errors import UserError, quoted
from codebackdoor.syntax.languages import COMMENTS, is_token, parse_bytes
from codebackdoor.types import Language, TextForm

NEWLINE, INDENT, DEDENT = "<nl>", "<indent>", "<dedent>"
MARKS = (NEWLINE, INDENT, DEDENT)

_DROPPED = COMMENTS | {"line_continuation"}
_DEFINITIONS = frozenset({"function_definition", "class_definition"})


class LexingError(UserError, ValueError):
    """The source cannot be lexed because it does not parse or contains a mark, or the marks of a lexed text do not
    match."""


def lex(source: str, language: Language) -> str:
    """The lexed text of ``source``: its ``words`` joined by single spaces."""
    return " ".join(words(source, language))


def words(source: str, language: Language) -> list[str]:
    """The tokens and marks of ``source``; a literal is one token.

    Raises LexingError if Python source does not parse (C and Java fragments are lexed where the parser recovers),
    if no token is left, or if the source itself contains a mark.
    """
    if any(mark in source for mark in MARKS):
        raise LexingError(f"the source contains one of the reserved marks {', '.join(MARKS)}")
    data = source.encode()
    root = parse_bytes(data, language).root_node
    if language == "python" and root.has_error:
        raise LexingError("the Python source does not parse")
    lexed = list(_python_words(root, data) if language == "python" else _words(root, data, language))
    while lexed and lexed[-1] == NEWLINE:
        lexed.pop()
    if not lexed:
        raise LexingError("the source holds no token")
    return lexed


def _python_words(root: Node, data: bytes) -> Iterator[str]:
    """Depth first, with an explicit stack of nodes and of finished words."""
    stack: list[Node | str] = [root]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif item.type in _DROPPED:
            continue
        elif item.type in ("block", "module"):
            stack.extend(reversed(_block(item)))
        elif is_token(item, "python"):
            if item.end_byte > item.start_byte:
                yield data[item.start_byte : item.end_byte].decode()
        elif item.type == "decorator":
            stack.append(NEWLINE)
            stack.extend(reversed(item.children))
        else:
            stack.extend(reversed(item.children))


def _block(block: Node) -> list[Node | str]:
    """The statements of a block with the marks around and between them; leading bare strings are docstrings."""
    statements = [child for child in block.children if child.type not in _DROPPED and child.type != ";"]
    if block.type == "module" or (block.parent is not None and block.parent.type in _DEFINITIONS):
        while statements and _is_bare_string(statements[0]):
            statements.pop(0)
    items: list[Node | str] = []
    for position, statement in enumerate(statements):
        items.append(statement)
        if position + 1 < len(statements) and not _ends_with_block(statement):
            items.append(NEWLINE)
    if block.type == "module":
        return items
    return [INDENT, *(items or ["pass"]), DEDENT]


def _is_bare_string(statement: Node) -> bool:
    return (
        statement.type == "expression_statement"
        and statement.child_count == 1
        and statement.children[0].type in ("string", "concatenated_string")
    )


def _ends_with_block(node: Node) -> bool:
    while node.child_count:
        node = next(child for child in reversed(node.children) if child.type not in _DROPPED)
        if node.type == "block":
            return True
    return False


def _words(root: Node, data: bytes, language: Language) -> Iterator[str]:
    """Tokens of C or Java; a preprocessor directive is between ``<nl>`` marks."""
    stack = [root]
    directive, previous, first = False, 0, True
    while stack:
        node = stack.pop()
        if node.type in COMMENTS:
            continue
        if not is_token(node, language):
            stack.extend(reversed(node.children))
            continue
        word = data[node.start_byte : node.end_byte].decode().strip()
        if not word:
            continue
        if directive and b"\n" in data[previous : node.start_byte].replace(b"\\\n", b""):
            directive = False
            yield NEWLINE
        elif word.startswith("#") and language == "c" and not first:
            yield NEWLINE
        directive = directive or (language == "c" and word.startswith("#"))
        yield word
        previous, first = node.end_byte, False


@dataclass(frozen=True, slots=True)
class Unlexed:
    """Source text made from a lexed text; ``starts`` pairs the offsets (source, text) at which each stretch begins."""

    source: str
    starts: tuple[tuple[int, int], ...]

    def to_text(self, offset: int) -> int:
        """Map a character offset of the source to the lexed text."""
        index = max(bisect_right(self.starts, offset, key=lambda pair: pair[0]) - 1, 0)
        source_start, text_start = self.starts[index]
        return text_start + offset - source_start


def unlexed(text: str, language: Language, form: TextForm) -> Unlexed | None:
    """The source of a stored text if they differ; lexed Java is source already. Raises as ``unlex`` does."""
    return unlex(text, language) if form == "lexed" and language != "java" else None


def unlex(text: str, language: Language) -> Unlexed:
    """Turn a lexed text into source: marks become line ends and indentation, everything else stays.

    Raises LexingError if a ``<dedent>`` closes nothing.
    """
    pieces: list[str] = []
    starts: list[tuple[int, int]] = []
    length, depth, position = 0, 0, 0
    start_of_stretch: int | None = None
    for word in [*text.split(" "), NEWLINE]:
        if word in MARKS:
            if start_of_stretch is not None:
                stretch = text[start_of_stretch : position - 1]
                indent = " " * (4 * depth)
                starts.append((length + len(indent), start_of_stretch))
                pieces.append(f"{indent}{stretch}\n")
                length += len(pieces[-1])
                start_of_stretch = None
            depth += (word == INDENT) - (word == DEDENT)
            if depth < 0:
                raise LexingError(
                    f"no lexed {language}: {DEDENT} without {INDENT} at character {position + 1} of {quoted(text)}"
                )
        elif start_of_stretch is None and word:
            start_of_stretch = position
        position += len(word) + 1
    return Unlexed("".join(pieces), tuple(starts) or ((0, 0),))


def balanced(text: str) -> str:
    """A lexed text, cut before the first ``<dedent>`` that closes nothing."""
    depth, words = 0, text.split(" ")
    for index, word in enumerate(words):
        depth += (word == INDENT) - (word == DEDENT)
        if depth < 0:
            return " ".join(words[:index])
    return text
