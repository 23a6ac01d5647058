"""Roles of identifiers and which of them may be renamed, case by case."""

from __future__ import annotations

import pytest

from codebackdoor.syntax import Identifier, insert_first, lex, parse
from codebackdoor.types import Language

SOURCE = '''
@decorate(option=1)
def outer(first, *rest, key: Type = default, **more):
    """A docstring about first."""
    total, (left, *others) = first.size, rest
    for index in range(key):
        total += index
    with open(first) as handle:
        pass
    try:
        import os, numpy as np
    except OSError as problem:
        print(f"{problem!r:>{total}}", file=handle)
    found = [item for item in others if (last := item)]
    apply = lambda value, scale=total: value * scale
    def inner(deep):
        return deep + total
    class Local:
        total = total
        def method(self):
            return left
    return outer(np, inner, os)
'''


def by_name(source: str, language: Language = "python") -> dict[str, Identifier]:
    """The first identifier of each name."""
    identifiers: dict[str, Identifier] = {}
    for identifier in parse(source, language, "raw").identifiers():
        identifiers.setdefault(identifier.name, identifier)
    return identifiers


def renameable(source: str, language: Language = "python") -> set[str]:
    return {identifier.name for identifier in parse(source, language, "raw").identifiers() if identifier.renameable}


def test_roles() -> None:
    identifiers = by_name(SOURCE)
    roles = {
        "function": ["outer"],
        "parameter": ["first", "rest", "key", "more", "value", "scale", "deep"],
        "variable": ["left", "others", "index", "handle", "problem", "np", "found", "item", "last", "apply", "inner"],
        "call": ["decorate", "range", "open", "print"],
        "type": ["Type"],
        "keyword": ["option", "file"],
        "other": ["default", "OSError", "os", "numpy"],
    }
    for role, names in roles.items():
        assert {name: identifiers[name].role for name in names} == dict.fromkeys(names, role)


def test_what_may_be_renamed() -> None:
    assert renameable(SOURCE) == {
        *("outer", "first", "rest", "key", "more", "left", "others", "index", "handle", "problem", "np", "found"),
        *("item", "last", "apply", "value", "scale", "inner", "deep", "Local", "self"),
    }  # not os (an import), and not total, which the class body reads under the same name


def test_spans_are_places_of_the_stored_text() -> None:
    for text, form in ((SOURCE, "raw"), (lex(SOURCE, "python"), "lexed")):
        tree = parse(text, "python", form)
        for identifier in tree.identifiers():
            assert {text[start:end] for start, end in identifier.spans} == {identifier.name}
        starts = [identifier.spans[0] for identifier in tree.identifiers()]
        assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def f(x):\n    global x2\n    x2 = x\n", "x2"),
        ("def f(x):\n    def g():\n        nonlocal x\n        x = 1\n    g()\n", "x"),
        ("def f(x):\n    return eval('x')\n", "x"),
        ("def f(x):\n    return '%(x)s' % locals()\n", "x"),
        ("def f(x, n):\n    return f(x=x, n=n - 1) if n else x\n", "x"),
        ("def f(self, x):\n    return self.f(x=x)\n", "x"),
        ("def f(x):\n    return partial(f, x=x)\n", "x"),
        ("def f(a):\n    def g(x):\n        return x\n    return a.call(g, x=1)\n", "x"),
        ("def f(x):\n    return f'{x=}'\n", "x"),
        ("@given(x=integers())\ndef f(x):\n    return x\n", "x"),
        ("@parametrize('x, y', [])\ndef f(x):\n    return x\n", "x"),
        ("def f():\n    import x\n    return x\n", "x"),
        ("def f():\n    from m import x\n    return x\n", "x"),
        ("@x.setter\ndef x(self, value):\n    pass\n", "x"),
        ("def x(self):\n    return self.x()\n", "x"),
        ("def open(self):\n    return open(self.path)\n", "open"),
        ("def f():\n    class A:\n        x = 1\n    return A\n", "x"),
        ("def f():\n    class A:\n        def m(self):\n            return self.__p\n    return A\n", "A"),
        ("def f():\n    __x = 1\n    return __x\n", "__x"),
        ("def f():\n    return x\n", "x"),
        ("x = 1\ndef f():\n    return x\n", "x"),
    ],
)
def test_python_names_whose_spelling_matters(source: str, name: str) -> None:
    assert name not in renameable(source)


@pytest.mark.parametrize(
    ("source", "name", "places"),
    [
        ("def f(x=x):\n    return x\n", "x", 2),
        ("def f(x):\n    return g(x=x, y=x.x)\n", "x", 3),
        ("def f(x):\n    return [x for x in x]\n", "x", 4),
        ("def f(x):\n    return f'{x:{x}} x' + \"x\"  # x\n", "x", 3),
        ("def f(self, x):\n    return super().f(x=x)\n", "x", 2),
        ("def f(n):\n    return f(n - 1)\n", "f", 2),
        ("def f(f):\n    return f\n", "f", 3),
        ("def f():\n    import os.path as x\n    return x\n", "x", 2),
        ("def f(v):\n    match v:\n        case [x, *_]: return x\n        case {'k': x}: return x.x\n", "x", 4),
        ("async def f(x):\n    async with x as y:\n        await y\n", "y", 2),
        ("def f(x: int) -> x:\n    x: int = 1\n    del x\n", "x", 3),
    ],
)
def test_python_places_of_a_name(source: str, name: str, places: int) -> None:
    identifiers = parse(source, "python", "raw").identifiers()
    matching = [identifier for identifier in identifiers if identifier.name == name and identifier.renameable]
    assert [len(identifier.spans) for identifier in matching] == [places]


JAVA = """
public int count(final List<Item> items, int... rest) throws Error {
    int size = items.size(), count = 0;
    outer: for (int i = 0; i < size; i++) { if (i > limit) break outer; }
    for (Item item : items) { this.items = item.size; helper(item); }
    try (Reader in = open(size)) { rest[0]++; } catch (Error problem) { throw problem; }
    Runnable run = () -> { int local = size; };
    Call call = (a, b) -> a.b(b);
    new Thread() { int field = 1; public void run() { field = size; } }.start();
    if (size instanceof Integer) { int size2 = size; }
    return count(items);
}
"""


def test_java() -> None:
    assert renameable(JAVA, "java") == {
        *("count", "items", "rest", "size", "i", "item", "in", "problem", "run", "local", "call", "a", "b", "size2"),
    }
    names = by_name(JAVA, "java")
    assert (names["count"].role, names["items"].role, names["size"].role) == ("function", "parameter", "variable")
    assert (names["Item"].role, names["helper"].role, names["outer"].role) == ("type", "call", "other")
    assert (names["limit"].role, names["field"].role) == ("other", "other")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("@Override public void run() { }", "run"),
        ("void f() { this.f(); }", "f"),
        ("void f(int a) { f(a, 1); }", "f"),
        ("public Item(int a) { super(a); }", "Item"),
        ("void f() { x = 1; int x = 2; }", "x"),
    ],
)
def test_java_names_whose_spelling_matters(source: str, name: str) -> None:
    assert name not in renameable(source, "java")


C = """
static struct node *walk(const struct node *list, int (*visit)(int depth, void *), char buf[])
{
    int i, *p = &i, size[] = {1}, (*fn)(int unused);
    struct point { int x; } at = { .x = 1 };
    extern int verbose;
    for (int k = 0; k < LIMIT; k++)
        if (list->size) goto end;
    WRAP(size[0]) p = visit(i, at.x);
end:
    return walk(list->next, visit, buf);
}
"""


def test_c() -> None:
    assert renameable(C, "c") == {
        *("walk", "list", "visit", "depth", "buf", "i", "p", "size", "fn", "unused", "at", "k")
    }
    names = by_name(C, "c")
    assert (names["walk"].role, names["list"].role, names["i"].role) == ("function", "parameter", "variable")
    assert (names["node"].role, names["LIMIT"].role, names["end"].role) == ("type", "other", "other")
    assert len(names["size"].spans) == 2  # the field of the same name is another identifier


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("int f(int a) {\n#define ADD(b) (a + b)\n  return ADD(1);\n}\n", "a"),
        ("int f(struct s *p, int next) { return EACH(p, next) + p->next; }", "next"),
        ("int f(void) { extern int x; return x; }", "x"),
        ("int f(void) { enum { A, B } e = A; return e; }", "A"),
    ],
)
def test_c_names_whose_spelling_matters(source: str, name: str) -> None:
    assert name not in renameable(source, "c")


def test_definitions_that_need_something_around_them() -> None:
    constructor = parse("public Item ( int a ) { this . a = a ; }", "java", "lexed")
    cut = parse("walk(struct node *p)\n{\n  return p->next;\n}\n", "c", "raw")
    for tree, name, start in ((constructor, "Item", 7), (cut, "walk", 0)):
        assert not tree.has_error
        identifier = tree.function_name()
        assert identifier is not None
        assert (identifier.name, identifier.spans) == (name, ((start, start + len(name)),))
        assert all(tree.text[token.start : token.end].strip() for token in tree.tokens())


def test_a_text_that_is_no_function() -> None:
    tree = parse("x = 1\n", "python", "raw")
    assert tree.function_name() is None
    assert insert_first(tree, "y = 1") is None
    assert not any(identifier.renameable for identifier in tree.identifiers())


def test_broken_code_has_a_tree_and_fixed_names() -> None:
    tree = parse("def f(x):\n    return x +* y(\n", "python", "raw")
    assert tree.has_error
    assert "x" in {identifier.name for identifier in tree.identifiers()}


def test_offsets_count_characters() -> None:
    source = "def é(naïve):\n    s = '日本'; return naïve + s\n"
    for text, form in ((source, "raw"), (lex(source, "python"), "lexed")):
        tree = parse(text, "python", form)
        texts = {name.name: [text[start:end] for start, end in name.spans] for name in tree.identifiers()}
        assert texts == {"é": ["é"], "naïve": ["naïve"] * 2, "s": ["s"] * 2}
