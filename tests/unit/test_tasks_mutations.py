"""Injected defects: every mutant is another program that still parses, and is made where it was said."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codebackdoor import syntax
from codebackdoor.tasks.defect_sites import find
from codebackdoor.tasks.mutations import Mutant, mutate

KINDS = ("operator", "variable", "arguments", "condition")
SOURCE = """
def pick(self, items, limit: int | None = None, *, größe=0):
    total, seen = 0, {}
    for index, item in enumerate(items):
        if item not in seen and (limit is None or index < limit):
            total += self.weigh(item, größe) * 2 - len("äöü")
        elif not seen:
            return clamp(total, f"{limit}")
    kept = [one for one in items if one]
    while total > limit:
        total = total - 1
    return kept if total else seen
"""


def lexed(source: str) -> str:
    return syntax.lex(source, "python")


def mutants(source: str, kind: str | None = None, count: int = 1, draws: int = 60) -> list[Mutant]:
    kinds = KINDS if kind is None else [kind] * count
    drawn = (mutate(lexed(source), kinds, count, np.random.default_rng(seed)) for seed in range(draws))
    return [mutant for mutant in drawn if mutant is not None]


def texts(source: str, kind: str | None = None) -> set[str]:
    return {mutant.text for mutant in mutants(source, kind)}


@pytest.mark.parametrize(
    ("kind", "source", "expected"),
    [
        ("operator", "def f(a, b):\n    return a + b", {"return a - b"}),
        ("operator", "def f(a, b):\n    return (a) is not (b)", {"return ( a ) is ( b )"}),
        ("operator", "def f(a, b):\n    a |= b", {"a &= b"}),
        ("operator", "def f(a, b, c):\n    return a < b == c", {"a <= b == c", "a > b == c", "a < b != c"}),
        ("variable", "def f(a, b):\n    return a", {"return b"}),
        ("arguments", "def f(a, b):\n    g(a + 1, *b, b)", {"g ( b , * b , a + 1 )"}),
        ("condition", "def f(a):\n    return 1 if not (a or g) else 2", {"return 1 if ( a or g ) else 2"}),
        ("condition", "def f(a, b):\n    while a in b:\n        pass", {"while a not in b"}),
        ("condition", "def f(a):\n    return [x for x in a if x.y()]", {"if not x . y ( ) ]"}),
    ],
)
def test_each_kind_makes_its_slip(kind: str, source: str, expected: set[str]) -> None:
    defective = texts(source, kind)
    assert len(defective) == len(expected)
    for part in expected:
        assert any(part in text for text in defective), defective


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("arguments", "def f(a):\n    return g(a, a)"),
        ("arguments", "def f(a, b):\n    return max(a, b)"),
        ("arguments", "def f(self, a, b):\n    self.assertEqual(a, b)"),
        ("variable", "def f(a):\n    b = a\n    return b"),
        ("variable", "def f(self, a):\n    return self.g(a)"),
        ("variable", "def f(a):\n    b = g(a)"),
        ("operator", "def f(a: int | None) -> int | str:\n    return f'{a + 1}'"),
        ("operator", "def f(a):\n    return 'x' + a + '%s' % a"),
        ("condition", "def f():\n    while True:\n        g()"),
        ("condition", "def f(a, b):\n    if a or b:\n        g()"),
    ],
)
def test_what_would_be_no_change_or_gives_itself_away_is_left_alone(kind: str, source: str) -> None:
    assert mutants(source, kind, draws=10) == []


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_a_mutant_is_another_program_that_parses(seed: int, count: int) -> None:
    text = lexed(SOURCE)
    mutant = mutate(text, KINDS, count, np.random.default_rng(seed))
    assert mutant is not None
    assert len(mutant.kinds) == count
    assert mutant.text.split() != text.split()
    changed = ast.parse(syntax.unlex(mutant.text, "python").source)
    assert ast.dump(changed) != ast.dump(ast.parse(syntax.unlex(text, "python").source))
    assert not mutant.tree.has_error
    assert lexed(syntax.unlex(mutant.text, "python").source) == mutant.text


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_outside_of_the_spans_the_text_is_the_original(seed: int) -> None:
    text = lexed(SOURCE)
    mutant = mutate(text, KINDS, 2, np.random.default_rng(seed))
    assert mutant is not None
    position = 0
    for start, end in mutant.spans:
        unchanged = mutant.text[position:start]
        assert unchanged in text
        position = end
    assert text.endswith(mutant.text[position:])


def test_a_name_is_not_used_before_it_is_bound() -> None:
    head = "def f ( a , b ) : <indent>"
    assert texts("def f(a, b):\n    g(a)\n    late = b\n    return late", "variable") == {
        f"{head} g ( b ) <nl> late = b <nl> return late <dedent>",
        f"{head} g ( a ) <nl> late = a <nl> return late <dedent>",
        f"{head} g ( a ) <nl> late = b <nl> return a <dedent>",
    }


def test_kinds_are_taken_in_order_and_one_without_a_place_is_passed_over() -> None:
    source = "def f(a, b):\n    return a + b"
    for kinds, count, expected in (
        (["condition", "operator", "variable"], 1, ("operator",)),
        (["condition", "operator", "variable"], 3, ("operator", "variable")),
        (["operator", "operator"], 2, ("operator",)),
        (["variable", "variable"], 2, ("variable", "variable")),
    ):
        mutant = mutate(lexed(source), kinds, count, np.random.default_rng(1))
        assert mutant is not None
        assert mutant.kinds == expected
    assert mutate(lexed(source), ["condition"], 1, np.random.default_rng(1)) is None


def test_the_same_generator_makes_the_same_mutant() -> None:
    first, second = (mutate(lexed(SOURCE), KINDS, 3, np.random.default_rng(7)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.text, first.kinds, first.spans) == (second.text, second.kinds, second.spans)


def test_offsets_count_characters_in_lines_of_any_script() -> None:
    source = "def f(a, b):\n    s = '\u00e4\u2028\U0001f600'; return g(s, a) + b\n"
    for site in find(source):
        for start, end, _ in (replacement for option in site.options for replacement in option):
            assert source[start:end] in ("s", "a", "b", "+")
