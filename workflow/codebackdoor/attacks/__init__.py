"""Attacks: each puts its trigger into an example's texts, keeps the code's meaning and says where the trigger stands.

A method is the module of its name with ``build(settings) -> Attack``, and one line in ``config/attacks.py``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from codebackdoor.types import Example, Span, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.config.attacks import AnyAttack

Granularity = Literal["identifier", "statement", "query", "code"]


@dataclass(frozen=True, slots=True)
class Injection:
    """An example with the trigger in its texts and everything else as it was; ``spans`` cover the trigger exactly."""

    example: Example
    spans: tuple[Span, ...]


class Attack(Protocol):
    """What puts a trigger into an example."""

    @property
    def granularity(self) -> Granularity: ...

    def inject(self, example: Example, form: TextForm, generator: np.random.Generator) -> Injection | None:
        """Return ``example`` with the trigger, or None where it does not fit; all chance comes from ``generator``."""


def load(settings: AnyAttack) -> Attack:
    """Build the attack that ``settings.method`` names."""
    attack: Attack = importlib.import_module(f"{__name__}.{settings.method}").build(settings)
    return attack
