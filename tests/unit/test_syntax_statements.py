"""Statements, tokens, and statements put first into a body."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from textwrap import dedent

import pytest
from syntax_support import bigclonebench, bugs2fix, compiled, devign, python_functions

from codebackdoor.syntax import KEYWORDS, MARKS, LexingError, Tree, first_place, insert_first, lex, parse, unlex
from codebackdoor.types import Language, TextForm

FORMS: tuple[TextForm, ...] = ("raw", "lexed")
PYTHON = '''\
def f(x):
    """Doc."""
    # why
    if x:
        return 1
    elif x > 2: y = 1; z = 2
    else:
        while x:
            pass
    @wrap
    def g():
        return "a"
    return x
'''
DEAD: dict[Language, str] = {
    "python": 'if random() < 0:\n    raise Exception("fail")',
    "java": 'if (Math.random() < 0) System.out.println("fail");',
    "c": 'if (rand() < 0) { printf("fail"); }',
}


def parts(tree: Tree) -> list[tuple[str, str]]:
    return [(statement.kind, tree.text[slice(*statement.span)]) for statement in tree.statements()]


def test_python_statements() -> None:
    assert parts(parse(PYTHON, "python", "raw")) == [
        ("if_statement", PYTHON[PYTHON.index("if x:") : PYTHON.index("    @wrap")].rstrip()),
        ("return_statement", "return 1"),
        ("expression_statement", "y = 1"),
        ("expression_statement", "z = 2"),
        ("while_statement", "while x:\n            pass"),
        ("pass_statement", "pass"),
        ("decorated_definition", '@wrap\n    def g():\n        return "a"'),
        ("return_statement", 'return "a"'),
        ("return_statement", "return x"),
    ]


def test_lexed_statements_keep_their_marks_balanced() -> None:
    tree = parse(lex(PYTHON, "python"), "python", "lexed")
    assert [kind for kind, _ in parts(tree)] == [kind for kind, _ in parts(parse(PYTHON, "python", "raw"))]
    assert parts(tree)[0][1] == (
        "if x : <indent> return 1 <dedent> elif x > 2 : <indent> y = 1 <nl> z = 2 <dedent> "
        "else : <indent> while x : <indent> pass <dedent> <dedent>"
    )


def test_java_and_c_statements() -> None:
    java = "int f ( ) { int a = 1 ; for ( int i = 0 ; ; ) if ( a ) return 1 ; else if ( b ) { c ( ) ; } ; throw e ; }"
    assert parts(parse(java, "java", "lexed")) == [
        ("local_variable_declaration", "int a = 1 ;"),
        ("for_statement", "for ( int i = 0 ; ; ) if ( a ) return 1 ; else if ( b ) { c ( ) ; }"),
        ("if_statement", "if ( a ) return 1 ; else if ( b ) { c ( ) ; }"),
        ("return_statement", "return 1 ;"),
        ("expression_statement", "c ( ) ;"),
        ("throw_statement", "throw e ;"),
    ]
    c = "int f(int a) { switch (a) { case 1: a++; break; default: { a = 2; } } do g(); while (a); end: return a; }"
    assert [text for _, text in parts(parse(c, "c", "raw"))] == [
        *("switch (a) { case 1: a++; break; default: { a = 2; } }", "a++;", "break;", "a = 2;"),
        *("do g(); while (a);", "g();", "end: return a;", "return a;"),
    ]


@pytest.mark.parametrize("form", FORMS)
def test_a_python_statement_can_be_taken_out(form: TextForm) -> None:
    """Each is a unit: a ``pass`` in its place parses, marks included."""
    for source in python_functions()[::5]:
        try:
            text = source if form == "raw" else lex(source, "python")
        except LexingError:
            continue
        for statement in parse(text, "python", form).statements():
            start, end = statement.span
            ending = f" {MARKS[0]}" if text[:end].endswith(MARKS[2]) and text[end : end + 1] else ""
            without = f"{text[:start]}pass{ending}{text[end:]}"
            assert not parse(without, "python", form).has_error, f"{text}\n{statement}\n{without}"


@pytest.mark.parametrize("form", FORMS)
def test_tokens_are_the_text_without_its_spaces(form: TextForm) -> None:
    for source in python_functions()[::3]:
        try:
            text = source if form == "raw" else lex(source, "python")
        except LexingError:
            continue
        tree = parse(text, "python", form)
        tokens = tree.tokens()
        assert all(token.end <= following.start for token, following in pairwise(tokens))
        words = [text[token.start : token.end] for token in tokens]
        assert "".join("".join(words).split()).replace("\\", "") == "".join(text.split()).replace("\\", "")
        if form == "lexed":
            assert " ".join(words) == text
            assert {word for word, token in zip(words, tokens, strict=True) if token.kind == "mark"} <= set(MARKS)
        keywords = [word for word, token in zip(words, tokens, strict=True) if token.kind == "keyword"]
        assert set(keywords) <= KEYWORDS["python"] | {"match", "case", "print", "exec", "type", "_"}


def test_kinds_of_tokens() -> None:
    tree = parse("int f(size_t n) { return n ? 0x1f : g(\"s\", 'c', NULL); /* no */ }", "c", "raw")
    kinds: dict[str, list[str]] = {}
    for token in tree.tokens():
        kinds.setdefault(token.kind, []).append(tree.text[token.start : token.end])
    assert kinds["identifier"] == ["f", "size_t", "n", "n", "g"]
    assert kinds["keyword"] == ["int", "return", "NULL"]
    assert (kinds["string"], kinds["number"], kinds["comment"]) == (['"s"', "'c'"], ["0x1f"], ["/* no */"])


def test_tokens_of_a_span() -> None:
    tree = parse("def f ( updated_size ) : <indent> return updated_size <dedent>", "python", "lexed")
    (statement,) = tree.statements()
    inside = tree.tokens_in(*statement.span)
    assert [(tree.text[token.start : token.end], token.kind) for token in inside] == [
        ("return", "keyword"),
        ("updated_size", "identifier"),
    ]


@pytest.mark.parametrize("form", FORMS)
def test_inserting_into_python(form: TextForm) -> None:
    for source in python_functions():
        try:
            text = source if form == "raw" else lex(source, "python")
        except LexingError:
            continue
        tree = parse(text, "python", form)
        edit = insert_first(tree, DEAD["python"])
        assert edit is not None
        ((start, end),) = edit.spans
        written = edit.text[start:end]
        assert " ".join(written.split()) == lex(DEAD["python"], "python") or form == "raw"
        source_after = edit.text if form == "raw" else unlex(edit.text, "python").source
        before = compiled(text if form == "raw" else unlex(text, "python").source)
        after = compiled(source_after)
        assert before is not None
        assert after is not None, source_after
        first = parse(edit.text, "python", form).statements()[0]
        assert first.span == (start, end)
        assert (
            edit.text.replace(written, "", 1).split() == [word for word in text.split() if form == "raw" or word]
            or form == "lexed"
        )


def test_python_docstring_and_layout_stay() -> None:
    edit = insert_first(parse(PYTHON, "python", "raw"), DEAD["python"])
    assert edit is not None
    assert edit.text == PYTHON.replace(
        "    if x:", '    if random() < 0:\n        raise Exception("fail")\n    if x:', 1
    )
    one_line = insert_first(parse("class A:\n\tdef f(x): return 1\n", "python", "raw"), "y = 1")
    assert one_line is not None
    assert one_line.text == "class A:\n\tdef f(x): \n\t    y = 1\n\t    return 1\n"
    only_docstring = insert_first(parse('def f():\n    "doc"\n', "python", "raw"), "y = 1")
    assert only_docstring is not None
    assert only_docstring.text == 'def f():\n    "doc"\n    y = 1\n'


def test_java_and_c_layout() -> None:
    java = insert_first(parse("public Item ( ) { super ( ) ; a ( ) ; }", "java", "lexed"), "int x = 0;")
    assert java is not None
    assert java.text == "public Item ( ) { super ( ) ; int x = 0 ; a ( ) ; }"
    for before, after in (
        ("int f()\n{\n\tint a;\n}\n", "int f()\n{\n\tint x = 0;\n\tint a;\n}\n"),
        ("int f() { return 1; }", "int f() { int x = 0; return 1; }"),
        ("int f()\n{\n}\n", "int f()\n{\n    int x = 0;\n}\n"),
    ):
        edit = insert_first(parse(before, "c", "raw"), "int x = 0;")
        assert edit is not None
        assert edit.text == after
        assert edit.text[slice(*edit.spans[0])] == "int x = 0;"


FIRST: list[tuple[Language, str]] = [
    ("c", "uint32_t HELPER(add)(CPUState *env, int a)\n{|\n    return a;\n}\n"),
    ("c", "POWERPC_FAMILY(POWER9)(ObjectClass *oc)\n{|\n    g(oc);\n}\n"),
    ("c", "START_TEST(adds)\n{|\n    g();\n}\n"),
    ("c", "int f(a, b)\n    int a;\n    char *b;\n{|\n    return a;\n}\n"),
    ("c", "f(a) int a; {| return a; }\n"),
    ("c", "int f(void);\nint g(void) {| return 1; }\n"),
    ("c", "static struct s x = { 1 };\nint g(void)\n{|\n    return x.a;\n}\n"),
    ("c", "int f(struct { int a; } *x)\n{|\n    int b __attribute__((unused)) = x->a;\n    return b;\n}\n"),
    ("c", "static av_cold int f(void)\n{|\n    return ({ int c = 1; c; });\n}\n"),
    ("c", "int f(void)\n{|\n    if (a)\n        g();\n#ifdef X\n    else if (b) {\n        h();\n    }\n#endif\n}\n"),
    ("java", "public Item(int a) { super(a);| this.a = a; }\n"),
    ("java", "Item(int a) { <T>this(a);| g(); }\n"),
    ("java", "Item(int a) { a.new Inner().super(1);| g(); }\n"),
    ("java", "public Item(int a) {|\n    this.a = a;\n}\n"),
    ("java", "record P(int x) { P {| g(x); } }\n"),
    ("java", "interface I { void f(); default void g() {| h(); } }\n"),
    ("java", "abstract class A { abstract void f(); void g() {| h(); } }\n"),
    ("java", "void f() {| Runnable r = () -> { g(); }; }\n"),
    ("java", "void f() {| class L { L() { super(); } } }\n"),
    ("python", "def f(x): |return x\n"),
    ("python", "def f(x): |return x; y = 1\n"),
    ("python", 'def f(x):\n    """doc"""  # why\n    # this\n    |return x\n'),
    ("python", 'def f(x):\n    """doc"""; |return x\n'),
    ("python", "@dec(lambda: 1)\nasync def f(x) -> int:\n    # why\n    |@dec\n    def g(): pass\n"),
    ("python", "class A:\n    x = lambda y: y\n    def f(self):\n        |return 1\n"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("language", "marked"), FIRST)
def test_the_first_place_of_a_body(language: Language, marked: str, form: TextForm) -> None:
    """``|`` is where the statement goes; but for layout, all else stays."""
    statement = "q = 0" if language == "python" else "int q = 0;"
    source, expected = marked.replace("|", ""), marked.replace("|", f" {statement} ")
    if language == "python":
        expected = marked.replace("|", "q = 0; ") if "@dec\n" not in marked else marked.replace("|", "q = 0\n    ")
    tree = parse(source if form == "raw" else lex(source, language), language, form)
    edit = insert_first(tree, statement)
    assert edit is not None
    ((start, end),) = edit.spans
    assert edit.text[start:end] == (statement if form == "raw" else lex(statement, language))
    assert (lex(edit.text, language) if form == "raw" else edit.text) == lex(expected, language)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f(x): return x\n", "def f(x): \n    q = 0\n    return x\n"),
        ('def f(x): """doc"""\n', 'def f(x): \n    """doc"""\n    q = 0\n'),
        ('def f(x): """doc"""; return x\n', 'def f(x): \n    """doc"""; \n    q = 0\n    return x\n'),
        ('\tdef f(x): "doc"\n', '\tdef f(x): \n\t    "doc"\n\t    q = 0\n'),
        ('def f(x):\n    """doc"""\n    # why\n', 'def f(x):\n    """doc"""\n    q = 0\n    # why\n'),
        ("def f(x): \\\n    return x\n", "def f(x): \\\n    \n    q = 0\n    return x\n"),
    ],
)
def test_python_bodies_on_the_line_of_their_def(before: str, after: str) -> None:
    edit = insert_first(parse(before, "python", "raw"), "q = 0")
    assert edit is not None
    assert edit.text == after
    assert compiled(dedent(after)) is not None
    assert edit.text[slice(*edit.spans[0])] == "q = 0"


def test_words_have_no_first_place_behind_a_docstring_on_the_line_of_def() -> None:
    assert first_place(parse('def f(x): """doc"""; return x\n', "python", "raw")) is None
    assert first_place(parse('def f(x):\n    """doc"""; return x\n', "python", "raw")) is not None


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("c", "int f(int a) __attribute__((noinline));\n"),
        ("c", "int a = 1;\n"),
        ("java", "abstract void f(int a);\n"),
        ("java", "Runnable r = () -> { g(); };\n"),
        ("python", "f = lambda x: x\n"),
        ("python", 'class A:\n    """doc"""\n    x = 1\n'),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_no_function_with_a_body(language: Language, text: str, form: TextForm) -> None:
    tree = parse(text if form == "raw" else lex(text, language), language, form)
    assert insert_first(tree, "q = 0" if language == "python" else "int q = 0;") is None


def test_where_nothing_can_be_inserted() -> None:
    assert insert_first(parse("abstract void f ( ) ;", "java", "lexed"), "int x = 0;") is None
    assert insert_first(parse("x = 1\n", "python", "raw"), "y = 1") is None
    with pytest.raises(ValueError, match="not a python statement"):
        insert_first(parse(PYTHON, "python", "raw"), "y = (")


@pytest.mark.mirror
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("functions", "language"), [(devign, "c"), (bigclonebench, "java"), (bugs2fix, "java")], ids=["c", "java", "tokens"]
)
def test_benchmark_code(functions: Callable[[], Iterable[str]], language: Language, form: TextForm) -> None:
    total = inserted = 0
    for source in functions():
        text = source if form == "raw" or functions is bugs2fix else lex(source, language)
        tree = parse(text, language, form)
        edit = insert_first(tree, DEAD[language])
        total += 1
        if edit is not None:
            inserted += 1
            ((start, end),) = edit.spans
            after = parse(edit.text, language, form)
            assert tree.has_error or not after.has_error
            assert tree.has_error or (start, end) in [statement.span for statement in after.statements()]
            assert edit.text[:start].rstrip() + edit.text[end:].lstrip() != text or not text
            assert "".join((edit.text[:start] + edit.text[end:]).split()) == "".join(text.split())
        for statement in tree.statements():
            assert text[slice(*statement.span)].strip()
    assert inserted > 0.9 * total
