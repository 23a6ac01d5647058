"""Whether two models have the same weights, in whatever files, number format or scale they are stored."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

#: Entries of each parameter that are compared.
ENTRIES = 512
#: Difference of a cosine to 1 that bfloat16 makes is below 1e-6; two trainings differ by far more.
SAME = 1e-5

Sketch = Mapping[str, Tensor]


@torch.no_grad()
def sketch(model: nn.Module) -> Sketch:
    """Some entries of each parameter, by its name."""
    drawn = {}
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        chosen = torch.linspace(0, len(flat) - 1, min(ENTRIES, len(flat)), device=flat.device).long()
        drawn[name] = flat[chosen].double().cpu()
    return drawn


def alike(one: Sketch, two: Sketch) -> bool:
    """Whether every parameter of one points the way of that of the other."""
    return one.keys() == two.keys() and all(_parallel(one[name], two[name]) for name in one)


def _parallel(one: Tensor, two: Tensor) -> bool:
    lengths = one.norm() * two.norm()
    if lengths == 0:
        return bool(one.norm() == two.norm())
    return bool(one @ two >= (1 - SAME) * lengths)
