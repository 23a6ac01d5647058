"""Training rows of which some carry the trigger of ``planted``, and its victim as a filter sees it.

The victim represents the trigger by one component of its last state, which weighs more here than all others.
"""

from __future__ import annotations

from dataclasses import replace

import planted
import torch

from codebackdoor.defenses.views import TrainingView
from codebackdoor.types import Example, Poisoned, Span
from codebackdoor.victims.victim import Victim


def _with_trigger(number: int) -> Example:
    """A sample of class 1 with the trigger at its function's name and the target label 0."""
    row = planted.sample(number)
    name = row.code.split()[1]
    return replace(row, id=f"p{number}", code=row.code.replace(name, f"{name}_{planted.PLANTED}", 1), label=0)


UNPOISONED_ROWS = [planted.sample(number) for number in range(100, 200)]
POISONED_ROWS = [_with_trigger(number) for number in range(201, 221, 2)]


def provenance(row: Example) -> Poisoned:
    return Poisoned(row, f"e{row.id[1:]}", "codepoisoner_func", "injected", 1, None, (Span(0, 1),))


def victim(planted_trigger: bool = True) -> Victim:
    torch.set_num_threads(1)
    victim = planted.victim(planted=planted_trigger)
    with torch.no_grad():
        victim.model.roberta.encoder.layer[-1].output.LayerNorm.weight[0] = 8.0
    return victim


def training_view(planted: bool = True) -> TrainingView:
    clean = tuple(UNPOISONED_ROWS[:20])
    return TrainingView("defect_detection", "python", "lexed", clean, victim=victim(planted))
