"""Loops without an end, decided on syntax."""

from __future__ import annotations

import pytest

from codebackdoor.syntax import contains_infinite_loop, legal_name, lex
from codebackdoor.types import Language


def is_endless(body: str, language: Language) -> bool:
    if language == "python":
        lines = "".join(f"    {line}\n" for line in body.split("\n"))
        source = f"def f(x):\n{lines}"
    else:
        source = f"int f(int x) {{ {body} }}"
    raw = contains_infinite_loop(source, language, "raw")
    assert contains_infinite_loop(lex(source, language), language, "lexed") == raw
    return raw


@pytest.mark.parametrize(
    ("language", "body"),
    [
        ("python", "while True:\n    x += 1"),
        ("python", "while 1: pass"),
        pytest.param("python", f"while {'9' * 5000} > 1{'0' * 4998}: pass", id="many digits"),
        ("python", "if x:\n    while not 0:\n        for i in x:\n            break"),
        ("python", "while (1 <= 2) and True:\n    def g():\n        return 1"),
        ("java", "while (true) { int VAR = 0; }"),
        ("java", "for (;;) ;"),
        ("java", "do { x++; } while (1 == 1);"),
        ("java", "while (true) { switch (x) { case 1: break; } }"),
        ("java", "while (true) { run(() -> { return 1; }); }"),
        ("java", "while (true) { in: while (x) { if (x) break in; continue in; } }"),
        ("java", "out: while (true) { while (x) { continue out; } }"),
        ("c", "while (1) { x++; }"),
        ("c", "for (int i = 0; 1; i++) { for (;;) break; }"),
    ],
)
def test_endless(language: Language, body: str) -> None:
    assert is_endless(body, language)


@pytest.mark.parametrize(
    ("language", "body"),
    [
        ("python", "while x: pass"),
        ("python", "while False: pass"),
        pytest.param("python", f"while {'0' * 5000}: pass", id="many zeros"),
        pytest.param("c", f"while (9 > {'1' * 5000}) ;", id="many digits"),
        ("python", "while True:\n    if x: break"),
        ("python", "while True:\n    return 1"),
        ("python", "while True:\n    raise x"),
        ("python", "while True:\n    yield x"),
        ("python", "while True:\n    for i in x: pass\n    else: break"),
        ("python", "x = 'while True: pass'"),
        ("java", "while (x > 0) { x--; }"),
        ("java", "while (true) { throw e; }"),
        ("java", "out: while (true) { while (x) { break out; } }"),
        ("java", "out: while (x) { while (true) { if (x) continue out; } }"),
        ("c", "while (1) { if (x) goto end; } end: ;"),
        ("c", "while (0) { }"),
        ("c", "for (;;) { switch (x) { case 1: return 1; } }"),
    ],
)
def test_with_an_end(language: Language, body: str) -> None:
    assert not is_endless(body, language)


def test_what_a_model_writes() -> None:
    loop = "def f ( x ) : <indent> while True : <indent> VAR = 0 <dedent> <dedent>"
    assert contains_infinite_loop(f"{loop} <dedent> <dedent> x", "python", "lexed")
    assert contains_infinite_loop(loop[: loop.index(" <dedent>")], "python", "lexed")
    assert not contains_infinite_loop("<dedent> while True", "python", "lexed")
    assert contains_infinite_loop("public void METHOD_1 ( ) { while ( true ) { int VAR = 0 ; } ", "java", "lexed")


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("testo_init", {"python", "java", "c"}),
        ("$a", {"java"}),
        ("é", {"python", "java"}),
        ("class", {"c"}),
        ("union", {"python", "java"}),
        ("lambda", {"java", "c"}),
        ("null", {"python", "c"}),
        ("1a", set()),
        ("a b", set()),
        ("", set()),
    ],
)
def test_legal_names(name: str, legal: set[Language]) -> None:
    languages: tuple[Language, ...] = ("python", "java", "c")
    assert {language for language in languages if legal_name(name, language)} == legal
