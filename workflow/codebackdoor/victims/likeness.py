"""Whether two models have the same weights, regardless of files, number format and scale."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

#: Entries of each parameter that are compared.
COMPARED_ENTRIES = 512
#: Maximum difference of the cosine from 1. Rounding to bfloat16 causes less than 1e-6; another training run, far more.
SAME = 1e-5

Sketch = Mapping[str, Tensor]


@torch.no_grad()
def sketch(model: nn.Module) -> Sketch:
    """Some entries of each parameter, by name."""
    entries = {}
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        indices = torch.linspace(0, len(flat) - 1, min(COMPARED_ENTRIES, len(flat)), device=flat.device).long()
        entries[name] = flat[indices].double().cpu()
    return entries


def alike(first: Sketch, second: Sketch) -> bool:
    """Whether the parameters of both have the same directions."""
    return first.keys() == second.keys() and all(_parallel(first[name], second[name]) for name in first)


def _parallel(first: Tensor, second: Tensor) -> bool:
    lengths = first.norm() * second.norm()
    if lengths == 0:
        return bool(first.norm() == second.norm())
    return bool(first @ second >= (1 - SAME) * lengths)
