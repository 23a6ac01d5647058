"""Prove that a comparison always or never holds, by interval evaluation of its two sides.

A side is a number, or a call of a function in ``CALLS``: these can be called from any function of their language, and
raise no error for the arguments accepted here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

from codebackdoor.types import Language

Interval = tuple[float, float]
Callee = Literal["sin", "cos", "exp", "sqrt", "random"]
CALLEES: tuple[Callee, ...] = ("sin", "cos", "exp", "sqrt", "random")

#: How each language writes the functions; the C ones need math.h and stdlib.h.
CALLS: Mapping[Language, Mapping[Callee, str]] = {
    "python": {
        **{name: f'__import__("math").{name}' for name in CALLEES},
        "random": '__import__("random").random',
    },
    "java": {name: f"Math.{name}" for name in CALLEES},
    "c": {**{name: name for name in CALLEES}, "random": "rand"},
}
#: The largest double below 1 is 1 - 2^-53; C's standard has only a lower bound for RAND_MAX.
_RANDOM: Mapping[Language, Interval] = {"python": (0, 1 - 2**-53), "java": (0, 1 - 2**-53), "c": (0, math.inf)}
#: Larger than the differences between mathematical libraries.
_ERROR = 1e-9

# a leading zero would make an integer of C or Java octal, and a long one would not be exact as a float
_NUMBER = r"-?(?:0|[1-9]\d{0,8})(?:\.\d{1,9})?"
_COMPARISON = re.compile(r"(?P<left>[^<>=!]+)(?P<operator>[<>]=?|[=!]=)(?P<right>[^<>=!]+)")
_CALL = re.compile(rf"(?P<callee>.+)\((?P<argument>{_NUMBER})?\)")


def truth(condition: str, language: Language) -> bool | None:
    """Return True if the condition always holds, False if it never does, and None if neither can be proved.

    Raises ValueError if it is not a comparison that this module can evaluate, or if evaluating it may fail.
    """
    comparison = _COMPARISON.fullmatch("".join(condition.split()))
    if comparison is None:
        raise ValueError("it is not a comparison of two values")
    left, right = (_interval(comparison[side], language) for side in ("left", "right"))
    return _compare(left, comparison["operator"], right)


def _interval(side: str, language: Language) -> Interval:
    if re.fullmatch(_NUMBER, side):
        return float(side), float(side)
    call = _CALL.fullmatch(side)
    calls = CALLS[language]
    callee = next((name for name in CALLEES if call and calls[name] == call["callee"].replace("'", '"')), None)
    if call is None or callee is None or (call["argument"] is None) != (callee == "random"):
        legal = ", ".join(f"{calls[name]}({'' if name == 'random' else 'NUMBER'})" for name in CALLEES)
        raise ValueError(f"{side} is neither a number nor a call that every {language} function can make: {legal}")
    if callee == "random":
        return _RANDOM[language]
    try:
        value = getattr(math, callee)(float(call["argument"]))
    except (ValueError, OverflowError):
        raise ValueError(f"{side} may fail") from None
    error = _ERROR * max(1.0, abs(value))
    return value - error, value + error


def _compare(left: Interval, operator: str, right: Interval) -> bool | None:
    if operator in (">", ">="):
        return _compare(right, operator.replace(">", "<"), left)
    if operator == "!=":
        equal = _compare(left, "==", right)
        return None if equal is None else not equal
    if operator == "<":
        always, never = left[1] < right[0], left[0] >= right[1]
    elif operator == "<=":
        always, never = left[1] <= right[0], left[0] > right[1]
    else:
        always, never = left[0] == left[1] == right[0] == right[1], left[1] < right[0] or right[1] < left[0]
    return True if always else False if never else None
