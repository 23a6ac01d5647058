"""The optimizers of victims: AdamW on all weights, or on one block of layers at a time (BAdam).

BAdam (Luo et al. 2024, Algorithm 1) partitions the weights into blocks and trains one block at a time for K steps with
Adam, whose state is reset for each block. Gradients, moments and, for weights in a shorter format, float32 copies exist
only for the active block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from codebackdoor.config.model_settings import ModelSettings
from codebackdoor.errors import UserError
from codebackdoor.seeding import numpy_generator

#: The layer's part of a parameter's name: everything up to the first number.
_LAYER = re.compile(r"(?:[^.]+\.)*?\d+(?=\.)")
Parameters = dict[str, nn.Parameter]


class Optimizer(Protocol):
    """The interface that the trainer uses; ``begin`` precedes the gradient of a step, and steps count from 0."""

    def begin(self, step: int) -> None: ...

    def step(self, lr: float) -> None: ...

    def zero_grad(self) -> None: ...

    def changed(self, steps: range) -> list[str]:
        """Names of the parameters that these steps change."""

    def state(self) -> dict[str, Tensor]:
        """The tensors needed, in addition to the weights, to resume after the last step."""

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Resume from a state that was saved after ``steps`` steps."""


def build(model: nn.Module, recipe: ModelSettings, steps: int, seed: int) -> Optimizer:
    """The recipe's optimizer, for ``steps`` steps of training; UserError if it does not fit the model."""
    if recipe.optimizer == "badam":
        return BlockAdamW(blocks(model), recipe, steps, seed)
    return AdamW({name: value for name, value in model.named_parameters() if value.requires_grad}, recipe)


class AdamW:
    """AdamW on all trainable weights."""

    def __init__(self, parameters: Parameters, recipe: ModelSettings) -> None:
        self._names = list(parameters)
        self._adam = _adam(parameters.values(), recipe)

    def begin(self, step: int) -> None:
        """Every step trains the same weights."""

    def step(self, lr: float) -> None:
        _step(self._adam, lr)

    def zero_grad(self) -> None:
        self._adam.zero_grad(set_to_none=True)

    def changed(self, steps: range) -> list[str]:
        return self._names if steps else []

    def state(self) -> dict[str, Tensor]:
        return _state(self._adam)

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:  # noqa: ARG002
        _restore(self._adam, state)


class BlockAdamW:
    """AdamW on one block after another; the order of the blocks depends only on the seed."""

    def __init__(self, blocks: list[Parameters], recipe: ModelSettings, steps: int, seed: int) -> None:
        self._blocks, self._recipe, self._seed = blocks, recipe, seed
        longest = steps // len(blocks)
        if recipe.switch_every > longest:
            raise UserError(
                f"switch_every: {recipe.switch_every} steps for each of {len(blocks)} blocks are more than the {steps} "
                f"steps of the training, so that some weights would never be trained; "
                + (f"write {longest} or less" if longest else "write `optimizer: adamw`, or train longer")
            )
        self._visit = -1
        self._activate(0)

    def block_at(self, step: int) -> int:
        """Index of the block that a step trains."""
        order, position = divmod(step // self._recipe.switch_every, len(self._blocks))
        if self._recipe.block_order == "ascending":
            return position
        if self._recipe.block_order == "descending":
            return len(self._blocks) - 1 - position
        return int(numpy_generator(self._seed, "blocks", str(order)).permutation(len(self._blocks))[position])

    def begin(self, step: int) -> None:
        if step // self._recipe.switch_every != self._visit:
            self._activate(step)

    def _activate(self, step: int) -> None:
        self._visit = step // self._recipe.switch_every
        for block in self._blocks:
            for parameter in block.values():
                parameter.requires_grad_(False)
                parameter.grad = None
        self._active = list(self._blocks[self.block_at(step)].values())
        for parameter in self._active:
            parameter.requires_grad_(True)
        self._precise = [
            value if value.dtype == torch.float32 else nn.Parameter(value.detach().float()) for value in self._active
        ]
        self._adam = _adam(self._precise, self._recipe)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        pairs = [(p, copy) for p, copy in zip(self._active, self._precise, strict=True) if p is not copy]
        for parameter, copy in pairs:
            copy.grad = None if parameter.grad is None else parameter.grad.float()
        _step(self._adam, lr)
        for parameter, copy in pairs:
            parameter.copy_(copy)
            copy.grad = None

    def zero_grad(self) -> None:
        for parameter in self._active:
            parameter.grad = None

    def changed(self, steps: range) -> list[str]:
        indices = dict.fromkeys(map(self.block_at, steps))
        return [name for index in indices for name in self._blocks[index]]

    def state(self) -> dict[str, Tensor]:
        copies = {
            f"precise/{index}": copy.detach()
            for index, copy in enumerate(self._precise)
            if copy is not self._active[index]
        }
        return _state(self._adam) | copies

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        self._activate(steps - 1)
        for index, copy in enumerate(self._precise):
            if copy is not self._active[index]:
                copy.copy_(state[f"precise/{index}"])
        _restore(self._adam, {name: value for name, value in state.items() if not name.startswith("precise/")})


def blocks(model: nn.Module) -> list[Parameters]:
    """The blocks of a model: its embeddings, each of its layers, and the remaining weights (head, last norm), if any.

    Raises UserError for a model without layers.
    """
    embeddings = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    }
    layers: dict[str, Parameters] = {}
    first: Parameters = {}
    rest: Parameters = {}
    for name, parameter in model.named_parameters():
        layer = _LAYER.match(name)
        if id(parameter) in embeddings and layer is None:
            first[name] = parameter
        elif layer is not None:
            layers.setdefault(layer.group(), {})[name] = parameter
        else:
            rest[name] = parameter
    if len(layers) < 2:
        raise UserError(
            f"optimizer: badam trains a model layer by layer, and {type(model).__name__} has {len(layers)}; write adamw"
        )
    return [block for block in (first, *layers.values(), rest) if block]


def _adam(parameters: Iterable[nn.Parameter], recipe: ModelSettings) -> torch.optim.AdamW:
    parameters = list(parameters)
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=recipe.lr,
        fused=True,
    )


def _step(adam: torch.optim.AdamW, lr: float) -> None:
    for group in adam.param_groups:
        group["lr"] = lr
    adam.step()


def _state(adam: torch.optim.AdamW) -> dict[str, Tensor]:
    moments = adam.state_dict()["state"]
    return {f"{index}/{name}": value for index, values in moments.items() for name, value in values.items()}


def _restore(adam: torch.optim.AdamW, state: Mapping[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        index, _, key = name.partition("/")
        moments.setdefault(int(index), {})[key] = value
    adam.load_state_dict({"state": moments, "param_groups": adam.state_dict()["param_groups"]})
