"""From a docstring to a query, as CodeSearchNet and CodeXGLUE clean theirs (Husain et al. 2019; Lu et al. 2021)."""

from __future__ import annotations

import re

#: Words and single signs, which stand apart in a query, so that a word has the same sub-tokens wherever it stands.
_WORD = re.compile(r"\w+|[^\w\s]")
#: Markup of epytext (L{name}) and reStructuredText (:class:`name`, ``name``): the name is kept.
_MARKUP = re.compile(r"(?<![A-Za-z])[A-Z]\{([^{}]*)\}|(?::[\w:]+:)?`{1,2}~?([^`]*?)(?:\s*<[^`<>]*>)?`{1,2}_{0,2}")
_UNWANTED = ("<img", "http:", "https:", ">>>")
_LEAST = 3
_LONGEST = 10_000


def query_of(docstring: str | None) -> str | None:
    """Return the first paragraph of ``docstring`` as words joined by single spaces, without markup.

    None where there are fewer than three words, ten thousand characters, letters beyond ASCII, links or examples.
    """
    if docstring is None:
        return None
    paragraph = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0]
    # nobody asks so long; the patterns below take the square of the length
    if len(paragraph) > _LONGEST:
        return None
    if not paragraph.isascii() or any(one in paragraph for one in _UNWANTED):
        return None
    plain = _MARKUP.sub(lambda found: found[1] or found[2] or "", paragraph)
    words = _WORD.findall(plain)
    return " ".join(words) if sum(word[0].isalnum() for word in words) >= _LEAST else None
