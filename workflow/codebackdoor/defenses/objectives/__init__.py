"""Defenses that train a victim differently: another loss, or another recipe; cross entropy is the undefended default.

A method is a folder with ``settings.py`` and ``method.py``, which has ``build(settings) -> Objective``, and an entry in
``config/methods.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from codebackdoor.loader import implementation

if TYPE_CHECKING:
    from torch import Tensor

    from codebackdoor.config.methods import AnyObjective


class Objective(Protocol):
    """A training loss; it keeps no state, and its ``repr`` shows every parameter."""

    def __call__(self, logits: Tensor, targets: Tensor, epoch: float) -> Tensor:
        """Return the mean loss (scalar) over the targets [N] that are not ``types.IGNORED``.

        ``logits`` is [N, C] (classification: N rows; generation: N tokens). ``epoch`` is a whole number from 1, or, if
        the recipe's clock is ``step``, grows evenly from 1 by 1 an epoch.
        """


def load(settings: AnyObjective) -> Objective:
    """Build the objective that ``settings.method`` names."""
    objective: Objective = implementation(__name__, settings.method).build(settings)
    return objective
