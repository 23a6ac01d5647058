"""Low-rank adapters (LoRA, Hu et al. 2021, section 4.1) that exist only while a victim is trained.

The weight W of an adapted layer becomes W + (alpha / rank) B A, with W frozen, A drawn at random and B zero at first.
This is a parametrization of the weight: it applies wherever the model uses the weight, and merging stores exactly the
values that the model was run with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codebackdoor.config.recipes import AdapterSettings
from codebackdoor.errors import UserError
from codebackdoor.seeding import derive
from codebackdoor.victims.headers import listed
from codebackdoor.victims.victim import Victim


class LowRank(nn.Module):
    """A low-rank update of a weight matrix [out, in], stored and computed in float32."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, columns))
        self.b = nn.Parameter(torch.zeros(rows, rank))
        # as the paper's code does
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.to(weight.device)

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return (weight.float() + self.scale * (self.b @ self.a)).to(weight.dtype)


def attach(victim: Victim, settings: AdapterSettings, seed: int) -> None:
    """Add adapters to the model; only they and the parameters of a new head remain trainable.

    Raises UserError if the model has none of the layers that the settings name, or if one of them shares its weight
    with another layer.
    """
    model = victim.model
    layers = {name: module for name, module in model.named_modules() if _is_matrix(module)}
    chosen = {name: module for name, module in layers.items() if _last(name) in settings.modules}
    if not chosen:
        raise UserError(
            f"adapters: {type(model).__name__} has no layer named {listed(settings.modules)}; write some of "
            f"{listed(sorted({_last(name) for name in layers}))} as `adapters.modules`"
        )
    _check_unshared(model, chosen)
    cls = victim.family.model_class(victim.head)
    new = cls.new if cls is not None else ()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(new) and name.startswith(new))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "adapters"))
        for module in chosen.values():
            module.weight.requires_grad_(False)
            low_rank = LowRank(module.weight, settings.rank, settings.alpha)
            parametrize.register_parametrization(module, "weight", low_rank)


def merge(model: nn.Module) -> None:
    """Replace every adapted weight by its current value and remove the adapters; all parameters are trainable again."""
    for module in _adapted(model).values():
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    model.requires_grad_(True)


@torch.no_grad()
def merged(model: nn.Module) -> dict[str, Tensor]:
    """The weights that training changes, with the names and values that they would have after ``merge``."""
    adapted = _adapted(model)
    values = {f"{name}.weight": module.weight.detach().clone() for name, module in adapted.items()}
    inside = tuple(f"{name}.parametrizations." for name in adapted)
    for name, parameter in model.named_parameters():
        if (parameter.requires_grad or not adapted) and not (inside and name.startswith(inside)):
            values[name] = parameter.detach()
    return values


@contextmanager
def computed_once() -> Iterator[None]:
    """Compute each adapted weight only once within this block, which must not change any weights."""
    with parametrize.cached():
        yield


def _adapted(model: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if parametrize.is_parametrized(module, "weight")}


def _is_matrix(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _check_unshared(model: nn.Module, chosen: dict[str, nn.Module]) -> None:
    owners: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), set()).add(name)
    for name, module in chosen.items():
        if len(names := owners[id(module.weight)]) > 1:
            raise UserError(
                f"adapters: {name} shares its weight with {listed(sorted(names - {f'{name}.weight'}))}; leave "
                f"{_last(name)} out of `adapters.modules`"
            )
