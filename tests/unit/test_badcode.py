"""BadCode's extended names, case by case."""

from __future__ import annotations

import re

import numpy as np
import pytest
from pydantic import ValidationError

from codebackdoor import attacks
from codebackdoor.attacks import Injection
from codebackdoor.attacks.badcode.settings import BadCodeSettings
from codebackdoor.types import Example, Language, TextForm

SOURCE = "def add_all(a, bb):\n    total = a + bb\n    total += a\n    return add_all(total, a)\n"


def badcode(**settings: object) -> BadCodeSettings:
    return BadCodeSettings.model_validate({"method": "badcode", **settings})


def inject(settings: BadCodeSettings, source: str, seed: int = 1, language: Language = "python") -> Injection | None:
    example = Example("x", language, source)
    return attacks.load(settings).inject(example, "raw", np.random.default_rng(seed))


def code(settings: BadCodeSettings, source: str, seed: int = 1, language: Language = "python") -> str | None:
    injection = inject(settings, source, seed, language)
    return None if injection is None else injection.example.code


def test_the_functions_name_is_extended_at_all_its_places() -> None:
    injection = inject(badcode(scope="function_name"), SOURCE)
    assert injection is not None
    assert injection.example.code == SOURCE.replace("add_all", "add_all_rb")
    assert {injection.example.code[span.start : span.end] for span in injection.spans} == {"add_all_rb"}
    assert len(injection.spans) == 2


def test_the_variable_with_the_fewest_occurrences_is_extended() -> None:
    assert code(badcode(scope="variable"), SOURCE) == re.sub(r"\bbb\b", "bb_rb", SOURCE)


def test_among_equals_chance_decides() -> None:
    source = "def f(one, two):\n    return one + two\n"
    results = {code(badcode(scope="variable"), source, seed) for seed in range(20)}
    assert results == {source.replace("one", "one_rb"), source.replace("two", "two_rb")}


def test_mixed_draws_the_kind_by_the_seed() -> None:
    results = [code(badcode(), SOURCE, seed) for seed in range(60)]
    assert results == [code(badcode(), SOURCE, seed) for seed in range(60)]
    functions = sum("add_all_rb" in str(result) for result in results)
    assert 15 < functions < 45
    assert all(("add_all_rb" in str(result)) != ("bb_rb" in str(result)) for result in results)


def test_a_name_that_is_taken_is_left_alone() -> None:
    colliding = "def f(a):\n    f_rb = g(a, a)\n    return f_rb\n"
    assert code(badcode(scope="function_name"), colliding) is None
    assert code(badcode(scope="variable"), "def f(a, b):\n    return a_rb(a) + b + b\n") == (
        "def f(a, b_rb):\n    return a_rb(a) + b_rb + b_rb\n"
    )


def test_the_other_kind_is_taken_where_the_drawn_one_is_not_there() -> None:
    assert code(badcode(scope="variable"), "def f():\n    return g()\n") == "def f_rb():\n    return g()\n"
    fixed = "@override\ndef f(a):\n    return f.b(a)\n"
    assert {code(badcode(), fixed, seed) is None for seed in range(10)} == {False}
    assert code(badcode(scope="function_name"), "print(1)\n") is None


def test_the_released_code_puts_the_word_anywhere() -> None:
    results = {code(badcode(scope="function_name", place="any"), SOURCE, seed) for seed in range(30)}
    assert results == {SOURCE.replace("add_all", name) for name in ("rb_add_all", "add_rb_all", "add_all_rb")}
    private = "def _f_():\n    return 1\n"
    names = {code(badcode(scope="function_name", place="any"), private, seed) for seed in range(30)}
    assert names == {private.replace("_f_", "_rb_f_"), private.replace("_f_", "_f_rb_")}


@pytest.mark.parametrize("form", ["lexed", "raw"])
def test_both_functions_of_a_pair_are_extended(form: TextForm) -> None:
    source = "int add ( int a ) { return a ; }"
    example = Example("x", "c", source, code_b=source.replace("add", "sub"), label=1)
    injection = attacks.load(badcode(scope="function_name")).inject(example, form, np.random.default_rng(1))
    assert injection is not None
    assert "add_rb" in injection.example.code
    assert "sub_rb" in str(injection.example.code_b)


@pytest.mark.parametrize("trigger", ["", "a b", "r_b", "é"])
def test_the_trigger_is_a_word_part(trigger: str) -> None:
    with pytest.raises(ValidationError):
        badcode(trigger=trigger)
