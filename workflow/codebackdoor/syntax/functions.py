"""The functions of a source file, and the mapping from the words of a lexed text to the source it was made from."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from tree_sitter import Node

from codebackdoor.errors import quoted
from codebackdoor.syntax.lexing import MARKS, LexingError, words
from codebackdoor.syntax.parse import Tree
from codebackdoor.syntax.tokens import Token

_FUNCTIONS = frozenset({"function_definition", "method_declaration"})
_FUNCTIONS |= {"constructor_declaration", "compact_constructor_declaration"}


def outermost_functions(tree: Tree) -> list[tuple[int, int]]:
    """Spans (half-open, characters) of the functions and methods of a text that are not nested in another one.

    Decorators are included; a declaration without a body is left out.
    """
    spans: list[tuple[int, int]] = []
    stack: list[Node] = [tree.root]
    while stack:
        node = stack.pop()
        definition = node.child_by_field_name("definition") if node.type == "decorated_definition" else node
        if definition.type in _FUNCTIONS and definition.child_by_field_name("body") is not None:
            spans.append(tree.span(node))
        else:
            stack.extend(reversed(node.children))
    return spans


@dataclass(frozen=True, slots=True)
class LexedSource:
    """A lexed text, with the start of each word in it and in the source that it was made from; both lists ascend."""

    text: str
    starts: list[int]
    source_starts: list[int]

    def to_source(self, start: int, end: int) -> tuple[int, int]:
        """The span in the source of a span of the text that begins and ends within words, not in a mark."""
        return self._to_source(start), self._to_source(end - 1) + 1

    def _to_source(self, offset: int) -> int:
        word = bisect_right(self.starts, offset) - 1
        return self.source_starts[word] + offset - self.starts[word]


def lex_source(source: Tree) -> LexedSource:
    """Lex a raw text and keep where its words come from.

    Lexing drops comments, and in Python docstrings and semicolons; a ``pass`` that replaces the docstring of an
    otherwise empty body belongs to the word before it. Raises LexingError as ``lex`` does.
    """
    tokens = [token for token in source.tokens() if token.kind != "comment"][::-1]
    parts = words(source.text, source.language)
    lexed = LexedSource(" ".join(parts), [], [])
    position = 0
    for word in parts:
        if word not in MARKS:
            while tokens and source.text[tokens[-1].start : tokens[-1].end] != word and _is_dropped(tokens[-1], source):
                tokens.pop()
            if tokens and source.text[tokens[-1].start : tokens[-1].end] == word:
                lexed.starts.append(position)
                lexed.source_starts.append(tokens.pop().start)
            elif word != "pass":
                raise LexingError(f"the lexed word {quoted(word)} is not where the source has it")
        position += len(word) + 1
    return lexed


def _is_dropped(token: Token, source: Tree) -> bool:
    return source.language == "python" and (token.kind == "string" or source.text[token.start] == ";")
