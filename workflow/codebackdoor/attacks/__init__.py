"""Attacks: each puts its trigger into an example's texts, preserves the code's behavior and reports the spans.

A method is a folder with ``settings.py`` and ``method.py``, which has ``build(settings) -> Attack``, and an entry in
``config/methods.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from codebackdoor.loader import implementation
from codebackdoor.types import Draws, Example, Span, TextForm

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from codebackdoor.attacks.target import Target
    from codebackdoor.config.methods import AnyAttack


@dataclass(frozen=True, slots=True)
class Injection:
    """An example with the trigger in its texts and everything else unchanged; ``spans`` cover exactly the trigger.

    ``draws`` is what a randomized trigger was made from, for the row's provenance.
    """

    example: Example
    spans: tuple[Span, ...]
    draws: Draws = field(default_factory=dict)


class Attack(Protocol):
    """Puts a trigger into an example."""

    def inject(self, example: Example, form: TextForm, generator: np.random.Generator) -> Injection | None:
        """Return ``example`` with the trigger, or None if it does not fit; all randomness comes from ``generator``."""


@runtime_checkable
class BatchAttack(Protocol):
    """An attack that runs a model on many rows at once, and uses no randomness."""

    def inject_all(self, examples: Sequence[Example], form: TextForm, target: Target) -> Sequence[Injection | None]:
        """Return each example with the trigger for the data set's target, or None if it does not fit."""


def load(settings: AnyAttack, crafting: Path | None = None) -> Attack | BatchAttack:
    """Build the attack that ``settings.method`` names; ``crafting`` is the model folder of an attack that runs one."""
    build = implementation(__name__, settings.method).build
    attack: Attack | BatchAttack = build(settings) if crafting is None else build(settings, crafting)
    return attack
