"""Defenses that train a victim with another loss; cross entropy is the undefended default.

A method is the module of its name with ``build(settings) -> Objective``, and one line in ``config/objectives.py``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from codebackdoor.config.objectives import AnyObjective

#: Target of a position that is not scored (padding), as torch has it.
IGNORED = -100


class Objective(Protocol):
    """A training loss; it keeps no state, and its ``repr`` shows every parameter."""

    def __call__(self, logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
        """Return the mean loss (scalar) over the targets [N] that are not ``IGNORED``.

        ``logits`` is [N, C] (classification: N rows; generation: N tokens); ``epoch`` counts from 1.
        """


def load(settings: AnyObjective) -> Objective:
    """Build the objective that ``settings.method`` names."""
    objective: Objective = importlib.import_module(f"{__name__}.{settings.method}").build(settings)
    return objective
