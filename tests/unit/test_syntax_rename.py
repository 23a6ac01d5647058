"""Renaming real code: meaning, strings and comments stay, and renaming back is the identity."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syntax_support import bigclonebench, bugs2fix, compiled, devign, difference, lyra, python_functions

from codebackdoor.syntax import LexingError, RenamingError, Tree, lex, parse, rename, replace, unlex
from codebackdoor.types import Language, TextForm

FORMS: tuple[TextForm, ...] = ("raw", "lexed")


def texts(source: str, language: Language, form: TextForm) -> list[str]:
    """The source in a text form; nothing where it cannot be lexed."""
    try:
        return [source if form == "raw" else lex(source, language)]
    except LexingError:
        return []


def new_names(tree: Tree) -> dict[str, str]:
    names = [identifier.name for identifier in tree.identifiers() if identifier.renameable]
    assert len(names) == len(set(names))
    return {name: f"fresh{number}_{name}" for number, name in enumerate(names)}


def untouchable(tree: Tree) -> list[str]:
    """Comments, and strings without interpolation."""
    words = [tree.text[token.start : token.end] for token in tree.tokens() if token.kind in ("string", "comment")]
    return [word for word in words if "{" not in word]


def check(text: str, language: Language, form: TextForm) -> Tree:
    tree = parse(text, language, form)
    names = new_names(tree)
    edit = rename(tree, names)
    assert {edit.text[start:end] for start, end in edit.spans} == set(names.values())
    assert len(edit.spans) == sum(len(identifier.spans) for identifier in tree.identifiers() if identifier.renameable)
    renamed = parse(edit.text, language, form)
    assert tree.has_error or not renamed.has_error
    assert untouchable(renamed) == untouchable(tree)
    assert rename(renamed, {new: old for old, new in names.items()}).text == text
    return renamed


def source_of(text: str, form: TextForm) -> str:
    return text if form == "raw" else unlex(text, "python").source


@pytest.mark.parametrize("form", FORMS)
def test_the_compiler_sees_only_other_names(form: TextForm) -> None:
    functions = python_functions()
    assert len(functions) > 300
    for source in functions:
        for text in texts(source, "python", form):
            tree = parse(text, "python", form)
            function = tree.function_name()
            renamed = check(text, "python", form)
            before, after = compiled(source_of(text, form)), compiled(source_of(renamed.text, form))
            assert before is not None
            assert after is not None, renamed.text
            assert difference(before, after, new_names(tree), function and function.name) is None, text


NAMES = st.sampled_from(["a", "b", "c", "f"])


def indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def expressions(depth: int) -> st.SearchStrategy[str]:
    if depth == 0:
        return NAMES
    part, name = expressions(depth - 1), NAMES
    kinds: list[tuple[Callable[..., str], list[st.SearchStrategy[str]]]] = [
        (lambda x, y: f"{x} + {y}.a", [part, name]),
        (lambda x, y, z: f"{x}({y}, b={z})", [name, part, part]),
        (lambda x, y, z: f"[{y} for {x} in {z}]", [name, part, part]),
        (lambda x, y, z, w: f"{{{x}: {y} for {x} in [{z}] if {w}}}", [name, part, part, part]),
        (lambda x, y, z: f"(lambda {x}=({y}): {z})", [name, part, part]),
        (lambda x, y: f"({x} := {y})", [name, part]),
        (lambda x, y: f"f'a{{{x}}} {{{y}!r:>{{{x}}}}}'", [name, name]),
    ]
    return st.one_of(name, *(st.tuples(*parts).map(lambda drawn, make=make: make(*drawn)) for make, parts in kinds))


def blocks(depth: int) -> st.SearchStrategy[list[str]]:
    return st.lists(statements(depth), min_size=1, max_size=3).map(
        lambda parts: [line for part in parts for line in part]
    )


def statements(depth: int) -> st.SearchStrategy[list[str]]:
    value, name = expressions(2), NAMES
    simple: list[tuple[Callable[..., list[str]], list[st.SearchStrategy[str]]]] = [
        (lambda x, y: [f"{x} = {y}"], [name, value]),
        (lambda x, y, z: [f"{x}, *{y} = {z}"], [name, name, value]),
        (lambda x, y: [f"{x} += {y}"], [name, value]),
        (lambda x, y: [f"import m as {x}, {y}"], [name, name]),
        (lambda x: [f"global {x}"], [name]),
        (lambda x: [f"del {x}"], [name]),
        (lambda x: [f"return {x}"], [value]),
    ]
    options: list[st.SearchStrategy[list[str]]] = [
        st.tuples(*parts).map(lambda drawn, make=make: make(*drawn)) for make, parts in simple
    ]
    if depth:
        heads: list[tuple[Callable[..., str], list[st.SearchStrategy[str]]]] = [
            (lambda x, y: f"for {x} in {y}:", [name, value]),
            (lambda x, y: f"with {y} as {x}:", [name, value]),
            (lambda x: f"if {x}:", [value]),
            (lambda x, y, z, w: f"def {x}({y}, {y}2={z}, *{w}3):", [name, name, value, name]),
            (lambda x, y: f"class {x}({y}):", [name, name]),
        ]
        options += [
            st.tuples(st.tuples(*parts), blocks(depth - 1)).map(
                lambda drawn, make=make: [make(*drawn[0]), *indented(drawn[1])]
            )
            for make, parts in heads
        ]
        options.append(
            st.tuples(name, blocks(depth - 1), blocks(depth - 1)).map(
                lambda drawn: ["try:", *indented(drawn[1]), f"except E as {drawn[0]}:", *indented(drawn[2])]
            )
        )
    return st.one_of(options)


@settings(max_examples=150, deadline=None)
@given(NAMES, st.lists(NAMES, unique=True), blocks(2), st.sampled_from(FORMS))
def test_scopes_made_up_to_confuse(name: str, parameters: list[str], body: list[str], form: TextForm) -> None:
    source = "\n".join([f"def {name}({', '.join(parameters)}):", *indented(body)]) + "\n"
    if compiled(source) is None:  # a name both global and local, and the like
        return
    for text in texts(source, "python", form):
        names = new_names(parse(text, "python", form))
        renamed = check(text, "python", form)
        before, after = compiled(source_of(text, form)), compiled(source_of(renamed.text, form))
        assert before is not None
        assert after is not None, f"{text}\n{renamed.text}"
        assert difference(before, after, names, name) is None, f"{text}\n{renamed.text}"


@pytest.mark.mirror
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("functions", "language"), [(devign, "c"), (bigclonebench, "java"), (lyra, "python")], ids=["c", "java", "python"]
)
def test_benchmark_code(functions: Callable[[], Iterable[str]], language: Language, form: TextForm) -> None:
    for source in functions():
        for text in texts(source, language, form):
            check(text, language, form)


@pytest.mark.mirror
def test_abstracted_java_is_renamed_as_it_is_stored() -> None:
    names = [check(text, "java", "lexed").function_name() for text in bugs2fix()]
    assert sum(name is not None for name in names) > 0.95 * len(names)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(python_functions()), st.data())
def test_one_name_at_a_time(source: str, data: st.DataObject) -> None:
    tree = parse(source, "python", "raw")
    names = [identifier.name for identifier in tree.identifiers() if identifier.renameable]
    if not names:
        return
    old = data.draw(st.sampled_from(names))
    edit = rename(tree, {old: "fresh"})
    assert rename(parse(edit.text, "python", "raw"), {"fresh": old}).text == source
    assert edit.text.count("fresh") == len(edit.spans)


def test_names_that_cannot_be_given_or_taken() -> None:
    tree = parse("def f(x, y):\n    z = g\n    return x.w + h(k=y) + (lambda q: q)(z)\n", "python", "raw")
    for names in ({"g": "n"}, {"w": "n"}, {"n": "m"}, {"x": "y"}, {"x": "g"}, {"x": "n", "y": "n"}, {"z": "q"}):
        with pytest.raises(RenamingError):
            rename(tree, names)
    assert rename(tree, {"x": "w", "y": "k"}).text == tree.text.replace("x.", "w.").replace("=y", "=k").replace(
        "(x, y)", "(w, k)"
    )
    swapped = rename(tree, {"x": "y", "y": "x"})
    assert swapped.text == "def f(y, x):\n    z = g\n    return y.w + h(k=x) + (lambda q: q)(z)\n"


def test_replacing() -> None:
    edit = replace("one two three", [(8, 13, "3"), (0, 3, "first"), (7, 7, "!")])
    assert edit.text == "first two! 3"
    assert [edit.text[start:end] for start, end in edit.spans] == ["first", "!", "3"]
    for pieces in ([(0, 3, ""), (2, 4, "")], [(10, 20, "")], [(3, 2, "")]):
        with pytest.raises(ValueError, match="overlaps"):
            replace("one two three", pieces)


PURE: list[tuple[str, str, list[list[object]]]] = [
    ("textwrap", "dedent", [["  a\n   b\n"], ["\tx\n"]]),
    ("colorsys", "rgb_to_hls", [[0.2, 0.5, 0.9], [1, 1, 1]]),
    ("colorsys", "hsv_to_rgb", [[0.2, 0.5, 0.9], [0.7, 0.1, 0.3]]),
    ("string", "capwords", [[" two  words "], ["a-b-c", "-"]]),
    ("difflib", "get_close_matches", [["appel", ["ape", "apple", "peach"]]]),
    ("shlex", "split", [["a 'b c' d"]]),
    ("calendar", "monthrange", [[2024, 2], [1999, 12]]),
    ("statistics", "quantiles", [[[1, 5, 2, 8, 4]]]),
    ("html", "escape", [["<a href='x'>&</a>"]]),
    ("heapq", "merge", [[[1, 4], [2, 3]]]),
    ("fnmatch", "translate", [["*.py"], ["[!a-c]?x"]]),
]
RUN = """
import importlib, inspect, json, sys
def outcome(function, arguments):
    try:
        result = function(*arguments)
        return repr((list(result) if inspect.isgenerator(result) else result, arguments))
    except Exception as error:
        return repr(error)
for module, name, source, renamed, inputs in json.load(sys.stdin):
    spaces = [dict(vars(importlib.import_module(module))) for _ in range(2)]
    exec(source, spaces[0])
    exec(renamed["text"], spaces[1])
    for arguments in inputs:
        one, other = json.loads(json.dumps([arguments, arguments]))
        assert outcome(spaces[0][name], one) == outcome(spaces[1][renamed["name"]], other), (name, renamed)
print("same")
"""


def test_renamed_functions_do_the_same() -> None:
    import importlib
    import inspect

    cases = []
    for module, name, inputs in PURE:
        source = inspect.getsource(getattr(importlib.import_module(module), name))
        for form in FORMS:
            for text in texts(source, "python", form):
                tree = parse(text, "python", form)
                names = new_names(tree)
                renamed = source_of(rename(tree, names).text, form)
                assert len(names) > 1
                cases.append((module, name, source, {"text": renamed, "name": names[name]}, inputs))
    assert len(cases) == 2 * len(PURE)
    result = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(cases), capture_output=True, text=True, check=False
    )
    assert result.stdout == "same\n", result.stderr


PROGRAM = """
#include <stdio.h>
struct node { int size; struct node *next; };
typedef int count;
static int size = 100;
%s
int main(void) {
    struct node c = {3, 0}, b = {2, &c}, a = {1, &b};
    printf("%%d", %s(&a, 2));
    return 0;
}
"""
WALK = """
int walk(struct node *node, count limit)
{
    int total = size, (*self)(struct node *n, count limit) = 0;
    for (struct node *next = node; next; next = next->next) {
        int size = next->size * sizeof(total);
        struct { int size; } at = { .size = size };
        total += at.size;
        { count total = 7; size = total; }
        if (size > limit && !self) goto total;
    }
total:
    return limit ? walk(node->next, limit - 1) + total : total;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_renamed_c_runs_the_same(tmp_path: Path) -> None:
    printed = []
    tree = parse(WALK, "c", "raw")
    assert {"walk", "node", "limit", "self", "next", "at"} <= set(new_names(tree))
    for number, (text, name) in enumerate([(WALK, "walk"), (rename(tree, new_names(tree)).text, "fresh0_walk")]):
        source, program = tmp_path / f"{number}.c", tmp_path / f"{number}.bin"
        source.write_text(PROGRAM % (text, name))
        subprocess.run(["gcc", "-w", "-o", program, source], check=True)
        printed.append(subprocess.run([program], capture_output=True, check=True).stdout)
    assert printed[0] == printed[1] != b""


CLASS = """
package p%d;
public class Main {
    static int size = 100;
    int value = 2;
    int value() { return 1000; }
%s
    public static void main(String[] args) { System.out.println(new Main().%s(3, 1, 2)); }
}
"""
METHOD = """
    int count(int size, int... rest) {
        int value = this.value + value(), Main = 1;
        java.util.function.IntUnaryOperator add = rest0 -> rest0 + size;
        loop: for (int loop = 0; loop < rest.length; loop++) {
            if (rest[loop] == 2) continue loop;
            value += new Object() { int size = 5; int get(int value) { return size + value; } }.get(rest[loop]);
        }
        try { Object text = "value"; if (text instanceof String) value += text.toString().length(); }
        catch (RuntimeException size2) { throw size2; }
        for (int one : rest) { Integer Integer = one; value += Integer.intValue(); }
        return size == 0 ? value : count(size - 1, rest) + add.applyAsInt(value) + Main;
    }
"""


@pytest.mark.skipif(shutil.which("javac") is None, reason="needs a Java compiler")
def test_renamed_java_runs_the_same(tmp_path: Path) -> None:
    tree = parse(METHOD, "java", "raw")
    names = new_names(tree)
    assert {"count", "rest", "value", "Main", "add", "rest0", "loop", "text", "one", "Integer"} <= set(names)
    assert "size" not in names  # the object inside has a field of that name
    both = "public class Both { public static void main(String[] a) { p0.Main.main(a); p1.Main.main(a); } }"
    (tmp_path / "Both.java").write_text(both)
    for number, (text, name) in enumerate([(METHOD, "count"), (rename(tree, names).text, names["count"])]):
        (tmp_path / f"p{number}").mkdir()
        (tmp_path / f"p{number}" / "Main.java").write_text(CLASS % (number, text, name))
    subprocess.run(["javac", "Both.java"], cwd=tmp_path, check=True)
    printed = subprocess.run(["java", "Both"], cwd=tmp_path, capture_output=True, check=True).stdout.split()
    assert len(printed) == 2
    assert printed[0] == printed[1]
