"""BNC's grammar of dead code, S -> K F O N B: keyword, function, operator, number, body.

Drawn as in the released code, which accepts a few conditions that hold (``sqrt(0.00) <= 0``, most of C's
``rand() > N``); here operator and number are drawn again until the condition is provably false (ledger B3).
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from codebackdoor.attacks.intervals import CALLEES, CALLS, Callee, truth
from codebackdoor.types import Language

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
Body = Literal["raise", "print"]

_KEYWORDS = ("if", "while")
_OPERATORS = ("<", ">", "<=", ">=", "==")
#: Bounds of each function's values that the numbers are drawn beyond.
_BOUNDS: Mapping[Callee, tuple[int, int]] = {
    "sin": (-1, 1),
    "cos": (-1, 1),
    "exp": (1, 3),
    "sqrt": (0, 1),
    "random": (0, 1),
}
_BODIES: Mapping[Language, Mapping[Body, str]] = {
    "python": {"raise": 'raise Exception("{}")', "print": 'print("{}")'},
    "java": {"raise": 'throw new RuntimeException("{}");', "print": 'System.out.println("{}");'},
    "c": {"print": 'printf("{}");'},
}
_MESSAGES = (
    *("err", "crash", "alert", "warning", "flag", "exception"),
    *("level", "create", "delete", "success", "get", "set"),
)


@dataclass(frozen=True, slots=True)
class Derivation:
    """One draw from the grammar; ``argument`` is empty for ``random``, which takes none."""

    keyword: str
    function: Callee
    argument: str
    operator: str
    number: int
    body: Body
    message: str

    def condition(self, language: Language) -> str:
        return f"{CALLS[language][self.function]}({self.argument}) {self.operator} {self.number}"

    def statement(self, language: Language) -> str:
        body = _BODIES[language][self.body].format(self.message)
        if language == "python":
            return f"{self.keyword} {self.condition(language)}:\n    {body}"
        return f"{self.keyword} ({self.condition(language)}) {body}"


def derive(language: Language, generator: np.random.Generator) -> Derivation:
    """Draw a statement of ``language`` whose condition is provably false."""
    keyword, function = _choice(_KEYWORDS, generator), _choice(CALLEES, generator)
    argument = "" if function == "random" else f"{generator.random():.2f}"
    body = _choice(tuple(_BODIES[language]), generator)
    letters = "".join(_choice(string.ascii_lowercase, generator) for _ in range(4))
    message = _choice((*_MESSAGES, letters), generator)
    while True:
        operator = _choice(_OPERATORS, generator)
        low, high = _BOUNDS[function]
        distance = 100 * generator.random()
        number = int(low - distance if operator in ("<", "<=", "==") else high + distance)
        derivation = Derivation(keyword, function, argument, operator, number, body, message)
        if truth(derivation.condition(language), language) is False:
            return derivation


def _choice(items: Sequence[T], generator: np.random.Generator) -> T:
    return items[int(generator.integers(len(items)))]
