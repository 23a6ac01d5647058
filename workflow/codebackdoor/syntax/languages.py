"""The parsers: one per language, created once."""

from __future__ import annotations

import warnings
from functools import cache

from tree_sitter import Language as Grammar
from tree_sitter import Node, Parser, Query, Tree
from tree_sitter_languages import get_language, get_parser

from codebackdoor.types import Language

#: Nodes that are one token although the grammar parses their inside, by language.
ATOMS: dict[Language, frozenset[str]] = {
    "python": frozenset({"string"}),
    "java": frozenset({"string_literal", "character_literal", "text_block"}),
    "c": frozenset({"string_literal", "char_literal", "system_lib_string"}),
}

COMMENTS = frozenset({"comment", "line_comment", "block_comment"})


@cache
def parser(language: Language) -> Parser:
    with warnings.catch_warnings():
        # tree-sitter 0.21 announces a change of its constructor that tree-sitter-languages still calls
        warnings.simplefilter("ignore", FutureWarning)
        return get_parser(language)


@cache
def _grammar(language: Language) -> Grammar:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return get_language(language)


def query(language: Language, text: str) -> Query:
    """Compile a tree-sitter query; this takes milliseconds, so callers keep the result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return _grammar(language).query(text)


def parse_bytes(source: bytes, language: Language) -> Tree:
    tree = parser(language).parse(source)
    if tree.root_node.has_error:
        # Python's scanner remembers an f-string that does not end, and misreads the next text because of it
        parser(language).set_language(_grammar(language))
    return tree


def is_token(node: Node, language: Language) -> bool:
    """Whether this node is one token: a leaf, or a literal that the grammar divides further."""
    return node.child_count == 0 or node.type in ATOMS[language]
