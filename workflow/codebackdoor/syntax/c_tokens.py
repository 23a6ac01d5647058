"""The words of C as the preprocessor sees them, without a grammar, including those that a parser may miss.

Strings and comments are not words. A name that a line continuation divides is one word.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, cast

_TOKEN = re.compile(
    rb"""
    (?P<blank> (?: \s | \\\r?\n | /\*.*?(?:\*/|\Z) | //(?:\\\r?\n|[^\n])* )+ )
  | (?P<string> (?:u8|[LuU])? " (?:\\.|[^"\\\n])* "? )
  | (?P<character> (?:u8|[LuU])? ' (?:\\.|[^'\\\n])* '? )
  | (?P<number> \.?[0-9] (?:[eEpP][+-]|[\w.])* )
  | (?P<word> [A-Za-z_$\x80-\xff] (?: (?:\\\r?\n)? [\w$\x80-\xff] )* )
  | (?P<sign> -> | \.\.\. | [=!<>]= | && | \|\| | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_NO_LINE_END = re.compile(rb"\\\r?\n|/\*.*?(?:\*/|\Z)", re.DOTALL)

CTokenKind = Literal["string", "character", "number", "word", "sign", "directive"]


class CToken(NamedTuple):
    """``start`` and ``end`` are bytes; the ``#`` that begins a directive has its own kind, and the tokens after it on
    the line are ``in_directive``."""

    start: int
    end: int
    text: bytes
    kind: CTokenKind
    in_directive: bool


def tokens(source: bytes) -> list[CToken]:
    """All tokens of C source, including those of directives."""
    collected: list[CToken] = []
    in_directive, line_begins = False, True
    for match in _TOKEN.finditer(source):
        text = match[0]
        if match.lastgroup == "blank":
            if b"\n" in _NO_LINE_END.sub(b"", text):
                in_directive, line_begins = False, True
            continue
        kind = cast(CTokenKind, match.lastgroup)
        if line_begins and text == b"#":
            kind, in_directive = "directive", True
        if kind == "word" and b"\\" in text:
            text = _NO_LINE_END.sub(b"", text)
        collected.append(CToken(match.start(), match.end(), text, kind, in_directive))
        line_begins = False
    return collected
