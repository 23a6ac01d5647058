"""Inserts tables into pages of the documentation, between two marks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from codebackdoor.errors import UserError
from codebackdoor.files import atomic, read_text

_BLOCK = re.compile(r"(<!-- table ([a-z0-9_.]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def paste(page: Path, tables: Path) -> list[str]:
    """Replace the blocks of a Markdown page with the tables that they name, and return the names.

    A block begins with ``<!-- table NAME -->`` and ends with ``<!-- end of table -->``, each on a line of its own;
    the text between them becomes ``tables/NAME.md`` without its title.
    """
    text = read_text(page)
    names = [name for _, name, _ in _BLOCK.findall(text)]
    if not names:
        raise UserError(f"{page}: no table to replace; mark one with <!-- table NAME --> and <!-- end of table -->")
    bodies = {name: "\n".join(_body(read_text(tables / f"{name}.md"))) for name in names}
    # omitted headings leave empty lines
    contents = {name: re.sub(r"\n{3,}", "\n\n", body.strip("\n")) for name, body in bodies.items()}
    with atomic(page) as stream:
        stream.write(with_tables(text, contents))
    return names


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """The text of a page with ``tables``, by name, in their blocks; other blocks stay as they are."""

    def filled(block: re.Match[str]) -> str:
        return f"{block[1]}\n{tables[block[2]]}\n\n{block[3]}" if block[2] in tables else block[0]

    return _BLOCK.sub(filled, text)


def _body(table: str) -> Iterator[str]:
    """The lines of a table without its title; if it has several parts, their headings become lines in bold."""
    lines = table.strip().splitlines()
    has_parts = sum(line.startswith("## ") for line in lines) > 1
    for line in lines:
        if line.startswith("## ") and has_parts:
            yield f"**{line.removeprefix('## ')}**"
        elif not line.startswith("#"):
            yield line
