"""Keys of normalized duplicates: two texts that differ only in names and literals have one key, in every language."""

from __future__ import annotations

from codebackdoor.corpora.mining import clone_key
from codebackdoor.syntax import Tree


def query_key(query: str) -> str:
    """A key that is equal for two queries of the same words, and different from every function's."""
    return f"query {' '.join(query.lower().split())}"


def normal_key(tree: Tree) -> str:
    """The hash that the corpus gives to a function and all its type-2 clones; comments do not count."""
    return clone_key(tree.text[token.start : token.end] for token in tree.tokens() if token.kind != "comment")
