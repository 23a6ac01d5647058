"""Parsed texts. Only this module undoes the text form, so that every span is an offset into the stored text.

tree-sitter tolerates errors: a text that does not parse still has a tree, with ``has_error``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from tree_sitter import Node

from codebackdoor.syntax import identifiers, statements, tokens
from codebackdoor.syntax.c_grammar import Skeleton, lacks_type, skeleton
from codebackdoor.syntax.identifiers import Identifier
from codebackdoor.syntax.languages import parse_bytes
from codebackdoor.syntax.lexing import Unlexed, unlexed
from codebackdoor.syntax.scopes import Analysis, analyze
from codebackdoor.syntax.statements import Statement
from codebackdoor.syntax.tokens import Token
from codebackdoor.types import Language, TextForm

#: Code around a definition that it may need in order to parse: a class for a Java method, a type for a C function.
_AROUND: dict[Language, tuple[bytes, bytes]] = {"java": (b"class C {", b"}"), "c": (b"int ", b"")}


@dataclass(eq=False)
class Tree:
    """A text and its syntax; ``root`` and ``source`` (bytes) are as parsed, possibly un-lexed or wrapped."""

    text: str
    language: Language
    form: TextForm
    root: Node
    source: bytes
    shift: int
    unlexed: Unlexed | None

    @property
    def has_error(self) -> bool:
        """Whether the parser had to skip or insert tokens."""
        return bool(self.root.has_error)

    @cached_property
    def _characters(self) -> list[int] | None:
        """Character offset of each byte of the source; None if they are the same."""
        if self.source.isascii():
            return None
        starts = accumulate(byte & 0xC0 != 0x80 for byte in self.source)
        return [max(count - 1, 0) for count in starts] + [len(self.source.decode())]

    @cached_property
    def _stretches(self) -> tuple[list[int], list[int]]:
        pairs = self.unlexed.starts if self.unlexed else ()
        return [source for source, _ in pairs], [text for _, text in pairs]

    def offset(self, byte: int) -> int:
        """Map a byte of the parsed source to a character of the text."""
        character = (byte if self._characters is None else self._characters[byte]) - self.shift
        if self.unlexed is None:
            return min(max(character, 0), len(self.text))
        sources, texts = self._stretches
        index = max(bisect_right(sources, character) - 1, 0)
        return texts[index] + character - sources[index]

    def span(self, node: Node) -> tuple[int, int]:
        """The characters of the text that a node covers."""
        return self.offset(node.start_byte), self.offset(node.end_byte)

    @cached_property
    def skeleton(self) -> Skeleton:
        """The tree for identifiers and bodies: for C, without the parts that the grammar cannot read."""
        if self.language == "c":
            return skeleton(self.source, self.root)
        return Skeleton(self.root, self.source, 0)

    @cached_property
    def analysis(self) -> Analysis:
        return analyze(self.skeleton.root, self.skeleton.source, self.language, is_cut=self.shift > 0)

    @cached_property
    def _identifiers(self) -> list[Identifier]:
        return identifiers.collect(self)

    @cached_property
    def _tokens(self) -> list[Token]:
        return tokens.collect(self)

    @cached_property
    def _statements(self) -> list[Statement]:
        return statements.collect(self)

    def identifiers(self) -> list[Identifier]:
        """Distinct identifiers in the order of their first occurrence."""
        return self._identifiers

    def function_name(self) -> Identifier | None:
        """The name of the outermost function or method that the text defines."""
        return next((identifier for identifier in self._identifiers if identifier.role == "function"), None)

    def statements(self) -> list[Statement]:
        """Complete statements inside function bodies, outer before inner, in the order of their starts."""
        return self._statements

    def tokens(self) -> list[Token]:
        """Tokens and marks in the order of the text."""
        return self._tokens

    def tokens_in(self, start: int, end: int) -> list[Token]:
        """The tokens that lie within the half-open interval of characters."""
        first = bisect_left(self._tokens, start, key=lambda token: token.start)
        last = bisect_right(self._tokens, end, key=lambda token: token.end)
        return self._tokens[first:last]


def parse(text: str, language: Language, form: TextForm) -> Tree:
    """Parse a text as it is stored.

    A Java method that does not parse outside a class is wrapped in one, a C function without a type gets a type.
    Raises LexingError if lexed Python has a ``<dedent>`` that closes nothing.
    """
    unlexed_text = unlexed(text, language, form)
    source = (unlexed_text.source if unlexed_text else text).encode()
    root, shift = parse_bytes(source, language).root_node, 0
    if root.has_error and language in _AROUND:
        before, after = _AROUND[language]
        wrapped = before + source + after
        inside = parse_bytes(wrapped, language).root_node
        if not inside.has_error or (language == "c" and lacks_type(source)):
            root, source, shift = inside, wrapped, len(before)
            if language == "java":
                root = root.children[0].child_by_field_name("body")
    return Tree(text, language, form, root, source, shift, unlexed_text)
