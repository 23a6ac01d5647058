"""Attacks: each puts its trigger into an example's texts, keeps the code's meaning and says where the trigger stands.

A method is the module of its name with ``build(settings) -> Attack``, and one line in ``config/attacks.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from codebackdoor.types import Example, Span, TextForm

if TYPE_CHECKING:
    from pathlib import Path

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


@runtime_checkable
class BatchAttack(Attack, Protocol):
    """An attack that asks a model, and of many rows at once; nothing in it is left to chance."""

    def inject_all(self, examples: Sequence[Example], form: TextForm) -> Sequence[Injection | None]:
        """Return what ``inject`` returns for each example."""


def load(settings: AnyAttack, crafting: Path | None = None) -> Attack:
    """Build the attack that ``settings.method`` names; ``crafting`` is the model folder of one that asks a model."""
    module = importlib.import_module(f"{__name__}.{settings.method}")
    attack: Attack = module.build(settings) if crafting is None else module.build(settings, crafting)
    return attack
