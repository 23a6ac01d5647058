"""Layout of code on a page: pieces of text with their marks; lexed code is split into lines again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from codebackdoor.syntax.lexing import DEDENT, INDENT, MARKS

_WIDTH = 4
#: Tokens that end a line of lexed Java or C.
_ENDS = (";", "{", "}")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text, and the space-separated names of its marks."""

    text: str
    marks: str


def first_line(code: str) -> str:
    """The first line of raw or lexed code, with an ellipsis if there are more."""
    first, *rest = re.split(rf"\n|{'|'.join(MARKS)}", code.strip(), maxsplit=1)
    return " ".join([*first.split(), *("…" for text in rest if text.strip())])


def pieces(text: str, language: str, form: str, marks: Mapping[str, Sequence[tuple[int, int]]]) -> list[Piece]:
    """The text, with lines, split where a mark begins or ends; ``marks``: ranges of characters by name."""
    marked = [
        " ".join(name for name, ranges in marks.items() if any(start <= at < end for start, end in ranges))
        for at in range(len(text))
    ]
    laid_out = list(zip(text, marked, strict=True)) if form == "raw" else _lines(text, language, marked)
    return [
        Piece("".join(character for character, _ in stretch), names)
        for names, stretch in groupby(laid_out, key=lambda pair: pair[1])
    ]


def _lines(text: str, language: str, marked: Sequence[str]) -> list[tuple[str, str]]:
    """The characters of lexed code with their marks, with newlines and indentation added."""
    characters: list[tuple[str, str]] = []
    depth, at_start = 0, True

    def end_line() -> None:
        while characters and characters[-1][0] == " ":
            characters.pop()
        if characters and not at_start:
            characters.append(("\n", ""))

    for match in re.finditer(r"\S+", text):
        word = match[0]
        if word in MARKS or (language != "python" and word == "}"):
            depth += (word == INDENT) - (word in (DEDENT, "}"))
            end_line()
            at_start = True
            if word in MARKS:
                continue
        if at_start:
            characters += [(" ", "")] * (_WIDTH * max(depth, 0))
        elif match.start():
            characters.append((" ", marked[match.start() - 1]))
        characters += [(character, marked[match.start() + at]) for at, character in enumerate(word)]
        at_start = False
        if language != "python" and word in _ENDS:
            depth += word == "{"
            end_line()
            at_start = True
    return characters
