"""The words of C as the preprocessor sees them, without a grammar: what a parser may miss is among them.

Strings and comments are no words. A name that a line continuation divides is one word.
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

Kind = Literal["string", "character", "number", "word", "sign", "directive"]


class Token(NamedTuple):
    """``start`` and ``end`` are bytes; the ``#`` that begins a directive is a kind of its own, and what follows on its
    line is ``in_directive``."""

    start: int
    end: int
    text: bytes
    kind: Kind
    in_directive: bool


def tokens(source: bytes) -> list[Token]:
    """All tokens of C source, those of directives included."""
    found: list[Token] = []
    in_directive, line_begins = False, True
    for match in _TOKEN.finditer(source):
        text = match[0]
        if match.lastgroup == "blank":
            if b"\n" in _NO_LINE_END.sub(b"", text):
                in_directive, line_begins = False, True
            continue
        kind = cast(Kind, match.lastgroup)
        if line_begins and text == b"#":
            kind, in_directive = "directive", True
        if kind == "word" and b"\\" in text:
            text = _NO_LINE_END.sub(b"", text)
        found.append(Token(match.start(), match.end(), text, kind, in_directive))
        line_begins = False
    return found
