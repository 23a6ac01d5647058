"""Asking a model that was just loaded about one short text: what cannot be asked is said before the work begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from codebackdoor.errors import UserError, first_line, memory_trouble
from codebackdoor.types import Example
from codebackdoor.victims.inference import NO_NUMBER, answers, generate
from codebackdoor.victims.victim import Victim

_EXAMPLE = Example("trial", "python", "x = 1", code_b="x = 1", query="x")


def check_answers(victim: Victim, folder: Path) -> None:
    """Raise UserError where a model, whose configuration nobody has checked, breaks or answers with no number."""
    try:
        (texts,) = victim.read([_EXAMPLE])
        if victim.head == "generation":
            numbers = torch.tensor(
                [output.confidence for output in generate(replace(victim, max_target_length=1), [texts[0].ids])]
            )
        else:
            numbers = answers(victim, [tuple(text.ids for text in texts)])
    except UserError:
        raise
    except Exception as error:
        if memory_trouble(error):
            raise
        raise UserError(f"{folder}: the model cannot be asked: {type(error).__name__}: {first_line(error)}") from error
    if not bool(torch.isfinite(numbers).all()):
        raise UserError(f"{folder}: {NO_NUMBER}")
