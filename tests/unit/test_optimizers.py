"""Optimizers of victims: BAdam against Adam written out, its blocks and their order, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import classifier, encoder_with_decoder, generator
from torch import Tensor, nn

from codebackdoor.config.models import CodeBert
from codebackdoor.errors import UserError
from codebackdoor.victims.optimizers import BlockAdamW, blocks, build

LR, DECAY = 0.05, 0.1


def recipe(**changes: Any) -> CodeBert:
    settings = {"optimizer": "badam", "lr": LR, "weight_decay": DECAY, **changes}
    if settings["optimizer"] == "badam":
        settings = {"switch_every": 3, **settings}
    return CodeBert.model_validate({"architecture": "codebert", **settings})


class Layered(nn.Module):
    """A linear model in three layers, so that blocks depend on each other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.layers:
            inputs = layer(inputs)
        return self.head(inputs)


def data(step: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=source), torch.randn(8, 2, generator=source)


def trained(model: nn.Module, optimizer: Any, steps: range, lr: float = LR, rows: int | None = None) -> None:
    for step in steps:
        optimizer.begin(step)
        inputs, targets = data(step if rows is None else rows)
        loss = (model(inputs.to(next(model.parameters()).dtype)).float() - targets).pow(2).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(lr)
        optimizer.zero_grad()


def by_hand(order: list[int], switch_every: int, steps: int) -> dict[str, np.ndarray[Any, Any]]:
    """Algorithm 1 with gradients by the chain rule and Adam by its formulas, in double precision."""
    model = Layered()
    weight = {name: value.detach().double().numpy().copy() for name, value in model.named_parameters()}
    names = [[f"layers.{index}.weight", f"layers.{index}.bias"] for index in range(3)] + [["head.weight", "head.bias"]]
    moments: dict[str, list[Any]] = {}
    for step in range(steps):
        if step % switch_every == 0:
            active = names[order[step // switch_every]]
            moments = {name: [np.zeros_like(weight[name]), np.zeros_like(weight[name])] for name in active}
        age = step % switch_every + 1
        inputs, targets = (part.double().numpy() for part in data(step))
        states = [inputs]
        for layer in ("layers.0", "layers.1", "layers.2", "head"):
            states.append(states[-1] @ weight[f"{layer}.weight"].T + weight[f"{layer}.bias"])
        backward = 2 * (states[-1] - targets) / targets.size
        gradients = {}
        for index, layer in reversed(list(enumerate(("layers.0", "layers.1", "layers.2", "head")))):
            gradients[f"{layer}.weight"], gradients[f"{layer}.bias"] = backward.T @ states[index], backward.sum(0)
            backward = backward @ weight[f"{layer}.weight"]
        for name in active:
            first, second = moments[name]
            first += 0.1 * (gradients[name] - first)
            second += 0.001 * (gradients[name] ** 2 - second)
            if weight[name].ndim > 1:
                weight[name] *= 1 - LR * DECAY
            weight[name] -= LR * (first / (1 - 0.9**age)) / (np.sqrt(second / (1 - 0.999**age)) + 1e-8)
    return weight


@pytest.mark.parametrize(("named", "order"), [("ascending", [0, 1, 2, 3]), ("descending", [3, 2, 1, 0])])
def test_badam_is_adam_on_one_block_after_another(named: str, order: list[int]) -> None:
    model = Layered()
    optimizer = build(model, recipe(block_order=named), 24, 1)
    trained(model, optimizer, range(24))
    expected = by_hand([*order, *order], 3, 24)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach().double(), torch.tensor(expected[name]), atol=1e-5, rtol=1e-5)


def test_only_the_active_block_has_gradients_and_a_state() -> None:
    model = Layered()
    optimizer = build(model, recipe(block_order="ascending"), 24, 1)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trained(model, optimizer, range(3))
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"layers.0.weight", "layers.0.bias"} == set(optimizer.changed(range(3)))
    assert set(optimizer.changed(range(2, 5))) == moved | {"layers.1.weight", "layers.1.bias"}
    assert {name.partition("/")[2] for name in optimizer.state()} == {"exp_avg", "exp_avg_sq", "step"}
    assert sum(value.numel() for name, value in optimizer.state().items() if "exp_avg" in name) == 2 * (16 + 4)
    assert [name for name, value in model.named_parameters() if value.requires_grad] == [
        "layers.0.weight",
        "layers.0.bias",
    ]


def test_every_round_visits_each_block_once_in_an_order_that_the_seed_decides() -> None:
    model = Layered()
    first, same, different = (build(model, recipe(), 1200, seed) for seed in (1, 1, 2))
    assert isinstance(first, BlockAdamW)
    visits = [[item.block_at(3 * visit) for visit in range(400)] for item in (first, same, different)]
    assert visits[0] == visits[1] != visits[2]
    rounds = [tuple(visits[0][start : start + 4]) for start in range(0, 400, 4)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in rounds)
    assert len(set(rounds)) > 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cut", [3, 7, 11])
def test_a_restored_state_goes_on_to_the_same_bytes(dtype: torch.dtype, cut: int) -> None:
    uninterrupted, half = (Layered().to(dtype) for _ in range(2))
    settings = recipe(switch_every=4)
    trained(uninterrupted, build(uninterrupted, settings, 16, 5), range(16))
    first = build(half, settings, 16, 5)
    trained(half, first, range(cut))
    state: Mapping[str, Tensor] = {name: value.clone() for name, value in first.state().items()}
    resumed = build(half, settings, 16, 5)
    resumed.restore(state, cut)
    trained(half, resumed, range(cut, 16))
    for name, value in uninterrupted.named_parameters():
        assert torch.equal(value, dict(half.named_parameters())[name]), name


def test_the_active_block_of_short_weights_moves_in_float32() -> None:
    """Small steps add up that each would be rounded away in bfloat16."""
    settings = recipe(switch_every=100, weight_decay=0.0, block_order="ascending")
    model, plain = Layered().to(torch.bfloat16), Layered().to(torch.bfloat16)
    before = model.layers[0].weight.detach().float()
    trained(model, build(model, settings, 400, 1), range(100), 2e-5, rows=0)
    moved = (model.layers[0].weight.detach().float() - before).abs()
    adam = build(plain, recipe(optimizer="adamw", weight_decay=0.0), 400, 1)
    trained(plain, adam, range(100), 2e-5, rows=0)
    rounded = (plain.layers[0].weight.detach().float() - before).abs()
    large = before.abs() > 0.1
    assert rounded[large].max() == 0
    assert moved[large].max() > 0


def test_blocks_are_embeddings_layers_and_the_rest() -> None:
    for victim, layers in ((classifier(), 2), (generator(), 4), (encoder_with_decoder(), 4)):
        groups = blocks(victim.model)
        names = [name for block in groups for name in block]
        assert sorted(names) == sorted(name for name, _ in victim.model.named_parameters())
        assert len(groups) == layers + 2
        assert any("emb" in name or "shared" in name for name in groups[0])
    assert set(groups[1]) == {name for name in names if name.startswith("roberta.encoder.layer.0.")}


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(UserError, match=r"badam trains a model layer by layer, and Linear has 0; write adamw"):
        build(nn.Linear(2, 2), recipe(), 100, 1)


def test_blocks_that_would_never_be_trained_are_refused() -> None:
    with pytest.raises(UserError, match=r"switch_every: 3 steps for each of 4 blocks .* 11 steps .*; write 2 or less"):
        build(Layered(), recipe(), 11, 1)
    with pytest.raises(UserError, match="write `optimizer: adamw`, or train longer"):
        build(Layered(), recipe(), 3, 1)
    build(Layered(), recipe(), 12, 1)
