"""The lexed text form keeps the program, and both ways fit together."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syntax_support import bigclonebench, devign, python_functions

from codebackdoor.syntax import DEDENT, INDENT, NEWLINE, LexingError, lex, parse, unlex
from codebackdoor.types import Language


class _WithoutDocstrings(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            while node.body and isinstance(node.body[0], ast.Expr) and _is_string(node.body[0].value):
                node.body.pop(0)
            node.body = node.body or [ast.Pass()]
        return super().generic_visit(node)


def _is_string(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def tree_of(source: str) -> str:
    return ast.dump(_WithoutDocstrings().visit(ast.parse(source)))


def test_python_keeps_its_program() -> None:
    lexed = 0
    for source in python_functions():
        try:
            text = lex(source, "python")
        except LexingError:
            continue
        lexed += 1
        back = unlex(text, "python")
        assert tree_of(back.source) == tree_of(source)
        assert lex(back.source, "python") == text
        tree = parse(text, "python", "lexed")
        assert not tree.has_error
        tokens = [token for token in tree.tokens() if token.kind not in ("mark", "keyword")]
        assert all(text[token.start : token.end] in source for token in tokens)
    assert lexed > 0.99 * len(python_functions())


def test_marks() -> None:
    source = 'class A:\n  """Doc."""\n  def f(self): x = 1; return  (x,\n   2) # end\n  y = 2\n'
    expected = f"class A : {INDENT} def f ( self ) : {INDENT} x = 1 {NEWLINE} return ( x , 2 ) {DEDENT} y = 2 {DEDENT}"
    assert lex(source, "python") == expected


def test_source_offsets_lead_back_to_the_text() -> None:
    text = lex("def f(a):\n    if a:\n        s = '''x\n\n  y'''\n    return a\n", "python")
    back = unlex(text, "python")
    position = 0
    for word in ("def", "if", "s", "'''x\n\n  y'''", "return"):
        position = back.source.index(word, position)
        assert text[back.to_text(position) :].startswith(word)


@pytest.mark.parametrize("source", ["", "# only a comment\n", "def f(:\n    pass\n", "s = '<nl>'\n"])
def test_what_cannot_be_lexed(source: str) -> None:
    with pytest.raises(LexingError):
        lex(source, "python")


def test_a_dedent_too_many_is_an_error() -> None:
    with pytest.raises(LexingError, match=DEDENT):
        parse(f"x = 1 {DEDENT}", "python", "lexed")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["x", "(", ")", ":", "if", "'a  b'", "é", "\n", NEWLINE, INDENT]), max_size=20))
def test_any_words_have_a_tree_whose_spans_lie_in_the_text(words: list[str]) -> None:
    text = " ".join(words)
    tree = parse(text, "python", "lexed")
    for identifier in tree.identifiers():
        assert {text[start:end] for start, end in identifier.spans} == {identifier.name}
    for token in tree.tokens():
        assert 0 <= token.start < token.end <= len(text)
    for statement in tree.statements():
        assert text[slice(*statement.span)].strip()


def test_java_and_c() -> None:
    java = 'int f(int[] a){ // no\n return a[0]+"a  b".length(); }'
    assert lex(java, "java") == 'int f ( int [ ] a ) { return a [ 0 ] + "a  b" . length ( ) ; }'
    c = "int f(void)\n{\n#ifdef A\n  int a;\n#endif\n  return a->b;\n}\n"
    text = lex(c, "c")
    assert (
        text == f"int f ( void ) {{ {NEWLINE} #ifdef A {NEWLINE} int a ; {NEWLINE} #endif {NEWLINE} return a -> b ; }}"
    )
    assert not parse(text, "c", "lexed").has_error


@pytest.mark.mirror
@pytest.mark.parametrize(("functions", "language"), [(devign, "c"), (bigclonebench, "java")], ids=["c", "java"])
def test_benchmark_code(functions: Callable[[], Iterable[str]], language: Language) -> None:
    same = total = 0
    for source in functions():
        text = lex(source, language)
        if parse(source, language, "raw").has_error:
            continue
        total += 1
        same += lex(unlex(text, language).source, language) == text
    assert same >= 0.99 * total > 100  # macros whose continuation lines the data set has cut do not come back


@pytest.mark.parametrize("unclosed", ['x = f" [a for\n', "x = f'''a {", 'x = f"{a'])
def test_an_unclosed_string_does_not_change_how_the_next_text_is_read(unclosed: str) -> None:
    assert parse(unclosed, "python", "raw").has_error
    assert not parse("def f(a):\n    if a:\n        return 1\n    return 2\n", "python", "raw").has_error
