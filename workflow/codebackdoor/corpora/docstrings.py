"""Queries made from docstrings, cleaned as in CodeSearchNet and CodeXGLUE (Husain et al. 2019; Lu et al. 2021)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codebackdoor.corpora.mining import MinedFunction

#: Words and single signs, separated in a query, so that a word always has the same sub-tokens.
_WORD = re.compile(r"\w+|[^\w\s]")
#: Markup of epytext (L{name}) and reStructuredText (:class:`name`, ``name``): the name is kept.
_MARKUP = re.compile(r"(?<![A-Za-z])[A-Z]\{([^{}]*)\}|(?::[\w:]+:)?`{1,2}~?([^`]*?)(?:\s*<[^`<>]*>)?`{1,2}_{0,2}")
_UNWANTED = ("<img", "http:", "https:", ">>>")
_MINIMUM_WORDS = 3
_MAXIMUM_LENGTH = 10_000


def query_of_function(function: MinedFunction) -> str | None:
    """The query that a function answers, from its docstring; None without one, for tests and for special methods.

    CodeSearchNet leaves these out: their names describe them.
    """
    name = function.name.rpartition(".")[2]
    if name.lower().startswith("test") or (name.startswith("__") and name.endswith("__")):
        return None
    return query_of(function.docstring)


def query_of(docstring: str | None) -> str | None:
    """The first paragraph of ``docstring`` as words joined by single spaces, without markup.

    None if it has fewer than three words, more than ten thousand characters, letters beyond ASCII, links or examples.
    """
    if docstring is None:
        return None
    paragraph = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0]
    # the patterns below take time quadratic in the length
    if len(paragraph) > _MAXIMUM_LENGTH:
        return None
    if not paragraph.isascii() or any(text in paragraph for text in _UNWANTED):
        return None
    plain = _MARKUP.sub(lambda match: match[1] or match[2] or "", paragraph)
    words = _WORD.findall(plain)
    return " ".join(words) if sum(word[0].isalnum() for word in words) >= _MINIMUM_WORDS else None
