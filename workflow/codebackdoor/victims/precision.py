"""Weights as a number format with fewer digits holds them."""

from __future__ import annotations

import torch

from codebackdoor.victims.victim import Victim


@torch.no_grad()
def rounded(victim: Victim, dtype: torch.dtype) -> Victim:
    """The victim itself, every weight changed to the value that ``dtype`` has for it; they stay as wide as they are."""
    for weight in (*victim.model.parameters(), *victim.model.buffers()):
        if weight.is_floating_point():
            weight.copy_(weight.to(dtype))
    return victim
