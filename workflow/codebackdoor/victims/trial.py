"""A trial run of a newly loaded model on one short text, so that a broken model fails early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from codebackdoor.errors import UserError, first_line, memory_trouble
from codebackdoor.heads import HEADS
from codebackdoor.types import Example
from codebackdoor.victims.inference import NOT_FINITE, generate, predict_logits
from codebackdoor.victims.victim import Victim

_EXAMPLE = Example("trial", "python", "x = 1", code_b="x = 1", query="x")


def check_answers(victim: Victim, folder: Path) -> None:
    """Raise UserError if a model, whose configuration was not checked, fails or returns non-finite values."""
    try:
        (texts,) = victim.tokenize([_EXAMPLE])
        if HEADS[victim.head].generates:
            outputs = generate(replace(victim, max_target_length=1), [texts[0].ids])
            values = torch.tensor([output.confidence for output in outputs])
        else:
            values = predict_logits(victim, [tuple(text.ids for text in texts)])
    except UserError:
        raise
    except Exception as error:
        if memory_trouble(error):
            raise
        raise UserError(f"{folder}: the model cannot be run: {type(error).__name__}: {first_line(error)}") from error
    if not bool(torch.isfinite(values).all()):
        raise UserError(f"{folder}: {NOT_FINITE}")
