"""Weights rounded to a shorter number format."""

from __future__ import annotations

import torch

from codebackdoor.victims.victim import Victim


@torch.no_grad()
def rounded(victim: Victim, dtype: torch.dtype) -> Victim:
    """Round every weight to the precision of ``dtype``, in place, keeping its own format; return the victim."""
    for weight in (*victim.model.parameters(), *victim.model.buffers()):
        if weight.is_floating_point():
            weight.copy_(weight.to(dtype))
    return victim
