"""Comparisons that provably always or never hold."""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codebackdoor.attacks.intervals import CALLEES, CALLS, truth
from codebackdoor.types import Language

OPERATORS = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
MATH, RANDOM = '__import__("math")', '__import__("random").random()'


@pytest.mark.parametrize(
    ("condition", "language", "expected"),
    [
        ("1 < 0", "c", False),
        ("1 >= 0", "java", True),
        ("0.50 == 0.5", "python", True),
        ("2 != -2", "c", True),
        ("1 != 1", "c", False),
        (f"{MATH}.sin(0.32) <= -5", "python", False),
        ("__import__('math').cos(0.10) > 1.5", "python", False),
        ("Math.exp(1.00) >= 3", "java", False),
        ("Math.exp(0.10) < 44", "java", True),
        # random is at least 0 and below 1
        (f"{RANDOM} < 0", "python", False),
        (f"{RANDOM} <= 0", "python", None),
        (f"{RANDOM} == 0", "python", None),
        (f"{RANDOM} >= 1", "python", False),
        ("Math.random() >= 1", "java", False),
        ("rand() < 0", "c", False),
        ("rand() == -1", "c", False),
        ("rand() <= 0", "c", None),
        ("rand() > 99", "c", None),
        # what the released grammar draws now and then
        ("sqrt(0.00) <= 0", "c", None),
        ("Math.sqrt(0.00) == 0", "java", None),
        ("cos(0.00) >= 1", "c", None),
        ("sqrt(1.00) >= 1", "c", None),
    ],
)
def test_what_is_proved(condition: str, language: Language, expected: bool | None) -> None:
    assert truth(condition, language) is expected


@pytest.mark.parametrize(
    ("condition", "language", "message"),
    [
        ("random() < 0", "python", r"random\(\) is neither a number nor a call that every python function can make"),
        ("math.sin(0.1) < -3", "python", "math.sin"),
        ("Math.random() < 0", "c", "every c function"),
        ("x < 0", "java", "x is neither"),
        ("rand(1) < 0", "c", "is neither"),
        ("sin() < -2", "c", "is neither"),
        ("010 > 9", "c", "010 is neither"),  # octal
        ("1000000000 < 0", "c", "is neither"),
        (f"{MATH}.sqrt(-1) > 5", "python", "may fail"),
        (f"{MATH}.exp(1000) < 0", "python", "may fail"),
        ("0 < 1 < 2", "python", "not a comparison"),
        ("1 < 0 || f()", "c", "is neither"),
        ("True", "python", "not a comparison"),
    ],
)
def test_what_cannot_be_evaluated(condition: str, language: Language, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        truth(condition, language)


@given(
    st.sampled_from([name for name in CALLEES if name != "random"]),
    st.decimals(0, 9, places=2),
    st.sampled_from(list(OPERATORS)),
    st.integers(-5, 12),
)
def test_a_proof_agrees_with_the_value(callee: str, argument: object, comparison: str, number: int) -> None:
    outcome = truth(f"{CALLS['java'][callee]}({argument}) {comparison} {number}", "java")  # type: ignore[index]
    value = getattr(math, callee)(float(str(argument)))
    expected = OPERATORS[comparison](value, number)
    assert outcome in (expected, None)
    if abs(value - number) > 1e-6:
        assert outcome is expected, "away from equality there is a proof"
