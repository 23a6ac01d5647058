"""Lines by syntax: the same in raw and lexed text, and what a text is without one of them."""

from __future__ import annotations

import pytest

from codebackdoor.syntax import MARKS, lex, parse, unlex
from codebackdoor.syntax.lines import lines, without_line
from codebackdoor.types import Language, TextForm

PYTHON = '''\
@wrap
def f(x):
    """Doc."""
    # why
    if x:
        return 1
    elif x > 2: y = 1; z = 2
    else:
        while x:
            pass
    if random() < 0: raise Exception("fail")
    return {"a": x}
'''
JAVA = """\
int f(int a) {
  int[] x = {1, 2};
  if (a > 0) { foo(); } else if (a < 3) bar(); else { baz(); }
  do { i++; } while (i < 3);
  switch (a) { case 1: case 2: foo(); break; default: return 3; }
  for (int i = 0; i < 3; i++) { run(() -> { b(); }); }
  try { x(); } catch (E e) { y(); }
}
"""
C = """\
static int f(int a) {
  int x[] = {1, 2};
  if (a > 0) { foo(); } else bar();
  switch (a) { case 1: foo(); default: return 3; }
#ifdef X
  goto out;
#endif
out:
  return a;
}
"""
EXPECTED: dict[Language, list[str]] = {
    "python": [
        "@wrap",
        "def f(x):",
        '"""Doc."""',
        "if x:",
        "return 1",
        "elif x > 2:",
        "y = 1",
        "z = 2",
        "else:",
        "while x:",
        "pass",
        "if random() < 0:",
        'raise Exception("fail")',
        'return {"a": x}',
    ],
    "java": [
        "int f(int a)",
        "int[] x = {1, 2};",
        *("if (a > 0)", "foo();", "else if (a < 3)", "bar();", "else", "baz();"),
        *("do", "i++;", "while (i < 3);"),
        *("switch (a)", "case 1: case 2:", "foo();", "break;", "default:", "return 3;"),
        *("for (int i = 0; i < 3; i++)", "run(() ->", "b();", ");"),
        *("try", "x();", "catch (E e)", "y();"),
    ],
    "c": [
        "static int f(int a)",
        "int x[] = {1, 2};",
        *("if (a > 0)", "foo();", "else", "bar();"),
        *("switch (a)", "case 1:", "foo();", "default:", "return 3;"),
        *("#ifdef X", "goto out;", "#endif", "out:", "return a;"),
    ],
}
SOURCES: dict[Language, str] = {"python": PYTHON, "java": JAVA, "c": C}


@pytest.mark.parametrize("language", list(SOURCES))
def test_lines_are_headers_and_simple_statements_in_either_form(language: Language) -> None:
    raw = parse(SOURCES[language], language, "raw")
    assert [raw.text[start:end] for start, end in lines(raw)] == EXPECTED[language]
    lexed = parse(lex(SOURCES[language], language), language, "lexed")
    texts = [lexed.text[start:end] for start, end in lines(lexed)]
    # lexing drops docstrings
    assert texts == [" ".join(lex(line, language).split()) if language == "c" and line[0] == "#" else line for line in
                     _lexed(language)]  # fmt: skip
    assert not [text for text in texts if any(mark in text for mark in MARKS)]


def _lexed(language: Language) -> list[str]:
    """The expected lines with single spaces between tokens, found in the lexed text by ignoring all space."""
    text = lex(SOURCES[language], language)
    position, result = 0, []
    for line in EXPECTED[language]:
        squeezed = "".join(line.split())
        if squeezed == '"""Doc."""':
            continue
        start = next(at for at in range(position, len(text)) if "".join(text[at:].split()).startswith(squeezed)
                     and not text[at].isspace())  # fmt: skip
        end = start
        while "".join(text[start:end].split()) != squeezed:
            end += 1
        result.append(text[start:end])
        position = end
    return result


@pytest.mark.parametrize("form", ["raw", "lexed"])
@pytest.mark.parametrize("language", list(SOURCES))
def test_without_a_line_everything_else_stays(language: Language, form: TextForm) -> None:
    text = SOURCES[language] if form == "raw" else lex(SOURCES[language], language)
    tree = parse(text, language, form)
    for start, end in lines(tree):
        rest = without_line(tree, (start, end))
        assert _tokens(rest) == _tokens(text[:start] + " " + text[end:])
        if form == "lexed":
            assert rest == " ".join(rest.split())
            # blocks stay balanced
            unlex(rest, language)


def _tokens(text: str) -> list[str]:
    return [word for word in text.split() if word != "<nl>"]


@pytest.mark.parametrize(
    ("text", "line", "rest"),
    [
        ("def f ( ) : <indent> a <nl> b <nl> c <dedent>", "a", "def f ( ) : <indent> b <nl> c <dedent>"),
        ("def f ( ) : <indent> a <nl> b <nl> c <dedent>", "b", "def f ( ) : <indent> a <nl> c <dedent>"),
        ("def f ( ) : <indent> a <nl> b <nl> c <dedent>", "c", "def f ( ) : <indent> a <nl> b <dedent>"),
        ("def f ( ) : <indent> a <dedent>", "a", "def f ( ) : <indent> <dedent>"),
        (
            "def f ( ) : <indent> if x : <indent> a <dedent> b <dedent>",
            "if x :",
            "def f ( ) : <indent> <indent> a <dedent> b <dedent>",
        ),
    ],
)
def test_a_lexed_line_takes_its_separator_along(text: str, line: str, rest: str) -> None:
    tree = parse(text, "python", "lexed")
    (span,) = [span for span in lines(tree) if tree.text[slice(*span)] == line]
    assert without_line(tree, span) == rest


@pytest.mark.parametrize(
    ("text", "line", "rest"),
    [
        ("def f():\n    a\n    b\n", "a", "def f():\n    b\n"),
        ("def f():\n    a\n    b", "b", "def f():\n    a\n"),
        ("def f():\n    a; b\n", "a", "def f():\n    ; b\n"),
        ("def f():\n    if x: a\n", "if x:", "def f():\n    a\n"),
        ("def f():\n    if x: a\n", "a", "def f():\n    if x:\n"),
        ("def f():\n    if x:\n        a\n    b\n", "if x:", "def f():\n        a\n    b\n"),
    ],
)
def test_a_raw_line_takes_its_line_end_along_if_nothing_else_is_there(text: str, line: str, rest: str) -> None:
    tree = parse(text, "python", "raw")
    (span,) = [span for span in lines(tree) if tree.text[slice(*span)] == line]
    assert without_line(tree, span) == rest
