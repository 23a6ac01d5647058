"""Positions of the nodes of Python's ``ast``, in characters of the source."""

from __future__ import annotations

import ast


class Positions:
    """Offsets of one source, which must contain no carriage returns: Python counts lines differently with them."""

    def __init__(self, source: str) -> None:
        self._lines = [0]
        self._bytes = [line.encode() for line in source.split("\n")]
        for line in source.split("\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)

    def offset(self, line: int, column: int) -> int:
        """The character offset of a line (from 1) and column (bytes of UTF-8) of ``ast``."""
        return self._lines[line - 1] + len(self._bytes[line - 1][:column].decode())

    def range(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """The half-open interval of a node, without parentheses around it."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)
