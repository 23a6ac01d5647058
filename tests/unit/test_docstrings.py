"""Docstrings become queries as in CodeSearchNet, and leave the code."""

from __future__ import annotations

import pytest

from codebackdoor.corpora.docstrings import query_of
from codebackdoor.syntax import without_docstring


@pytest.mark.parametrize(
    ("docstring", "query"),
    [
        ("Open the file.\n\nMore of it.", "Open the file ."),
        ("Return L{Deferred} of\n    C{fileName}.", "Return Deferred of fileName ."),
        ("Apply :class:`~a.Row` to ``x`` and `y <z>`_.", "Apply a . Row to x and y ."),
        ("A set {1, 2} of numbers", "A set { 1 , 2 } of numbers"),
        ("Two words.", None),
        ("Öffne diese Datei hier", None),
        ("See https://x.org for all this", None),
        (None, None),
        ("", None),
    ],
)
def test_queries(docstring: str | None, query: str | None) -> None:
    assert query_of(docstring) == query


@pytest.mark.parametrize(
    ("source", "bare"),
    [
        ('def f(a):\n    """Doc."""\n    # why\n    return a\n', "def f(a):\n    # why\n    return a\n"),
        ('def f(a):\n    """Doc."""\n', "def f(a):\n    pass\n"),
        ("def f(a):\n    return 'Doc.'\n", "def f(a):\n    return 'Doc.'\n"),
        ("class C:\n  @p\n  def f(a):\n    'é'; x = 1\n", "class C:\n  @p\n  def f(a):\n    x = 1\n"),
        ("x = 1\n", None),
    ],
)
def test_a_docstring_leaves_the_code(source: str, bare: str | None) -> None:
    assert without_docstring(source) == bare
