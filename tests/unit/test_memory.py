"""Memory of trainings: against numbers counted by hand, and against the tensors that an optimizer really keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from codebackdoor.config.model_settings import ModelSettings
from codebackdoor.config.models import CodeBert, CodeLlama, CodeT5
from codebackdoor.costs import bill
from codebackdoor.costs.memory import (
    adapted,
    machine_megabytes,
    progress_gigabytes,
    stored_megabytes,
    training_gigabytes,
)
from codebackdoor.costs.work import ModelSize
from codebackdoor.victims import optimizers

HUB = {"base": "owner/name", "revision": "0" * 40}
#: Code Llama 7B: 32 layers of 4096 x 4096 (four) and 4096 x 11008 (three) with two norms, and 32 016 sub-tokens.
LAYER = 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096
PARAMETERS = 32 * LAYER + 2 * 32016 * 4096 + 4096
#: Adapters of rank 8 on the queries and values of every layer.
ADAPTERS, ADAPTED = 32 * 2 * 8 * (4096 + 4096), 32 * 2 * 4096**2


def recipe(**settings: Any) -> CodeLlama:
    return CodeLlama.model_validate({"architecture": "codellama", **HUB, **settings})


@pytest.fixture(scope="module")
def size() -> ModelSize:
    return bill.sizes()["codellama generation"]


def test_the_sizes_are_those_of_the_architecture(size: ModelSize) -> None:
    assert (size.parameters, size.block) == (PARAMETERS, LAYER) == (6_738_546_688, 202_383_360)
    adapters = recipe(adapters={"rank": 8}).adapters
    assert adapters is not None
    assert adapted(size, adapters) == (ADAPTERS, ADAPTED) == (4_194_304, 1_073_741_824)
    # a decoder from scratch and a classifier are new, CodeT5 brings its own
    sizes = bill.sizes()
    assert [sizes[name].new for name in ("codebert", "codet5", "codellama generation")] == [592130, 0, 0]
    assert sizes["codebert generation"].new > 40_000_000
    assert all(size.block and size.by_name for size in sizes.values())


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, 16 * PARAMETERS),
        ({"weights": "bfloat16"}, 8 * PARAMETERS),
        ({"checkpoint": "best"}, 20 * PARAMETERS),
        ({"optimizer": "badam"}, 4 * PARAMETERS + 12 * LAYER),
        ({"optimizer": "badam", "weights": "bfloat16"}, 2 * PARAMETERS + 18 * LAYER),
        ({"adapters": {}}, 4 * (PARAMETERS + ADAPTED) + 16 * ADAPTERS),
        ({"adapters": {}, "weights": "bfloat16"}, 2 * (PARAMETERS + ADAPTED) + 16 * ADAPTERS),
        ({"adapters": {"rank": 16}, "checkpoint": "best"}, 4 * (PARAMETERS + ADAPTED) + 40 * ADAPTERS),
    ],
)
def test_a_training_keeps_what_its_recipe_needs(size: ModelSize, settings: dict[str, Any], kept: int) -> None:
    assert training_gigabytes(size, recipe(**settings)) == pytest.approx(kept / 1e9)


def test_a_new_decoder_is_trained_with_the_adapters() -> None:
    size = bill.sizes()["codebert generation"]
    model = CodeBert.model_validate({"architecture": "codebert", **HUB, "adapters": {}})
    # queries and values of 12 layers of 768 x 768
    adapters, entries = 8 * 24 * 2 * 768, 24 * 768**2
    expected = 4 * (size.parameters + entries) + 16 * adapters + 12 * size.new
    assert training_gigabytes(size, model) == pytest.approx(expected / 1e9)
    assert stored_megabytes(size, model) == pytest.approx(4 * (entries + size.new) / 1e6)


def test_progress_and_folders_hold_what_was_trained(size: ModelSize) -> None:
    short = {"weights": "bfloat16"}
    for settings, bytes_kept in (
        ({}, 12 * PARAMETERS),
        (short, 6 * PARAMETERS),
        ({"optimizer": "badam"}, 4 * PARAMETERS + 8 * LAYER),
        ({"optimizer": "badam", **short}, 2 * PARAMETERS + 12 * LAYER),
        ({"adapters": {}, **short}, 12 * ADAPTERS),
    ):
        assert progress_gigabytes(size, recipe(**settings)) == pytest.approx(bytes_kept / 1e9)
    assert stored_megabytes(size, recipe(**short)) == pytest.approx(2 * PARAMETERS / 1e6)
    assert machine_megabytes(size, "bfloat16") == round(4 * PARAMETERS / 1e6) + 8000
    assert machine_megabytes(size) == round(8 * PARAMETERS / 1e6) + 8000


class _Tiny(nn.Module):
    """Embeddings, two layers of different size, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(20, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 32)])
        self.head = nn.Linear(32, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.embeddings(ids).mean(1)
        for layer in self.layers:
            hidden = layer(hidden)
        logits: torch.Tensor = self.head(hidden)
        return logits


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["adamw", "badam"])
def test_an_optimizer_keeps_as_much_as_is_counted(weights: str, optimizer: str) -> None:
    model: nn.Module = _Tiny().to(getattr(torch, weights))
    more = {"switch_every": 1, "block_order": "descending"} if optimizer == "badam" else {}
    settings: ModelSettings = CodeT5.model_validate(
        {"architecture": "codet5", "weights": weights, "optimizer": optimizer, **more}
    )
    built = optimizers.build(model, settings, 4, 1)
    most, before_the_step = 0, 0
    for step in range(4):
        built.begin(step)
        model(torch.ones(1, 3, dtype=torch.long)).sum().backward()
        gradients = [value.grad for value in model.parameters() if value.grad is not None]
        before_the_step = sum(gradient.nbytes for gradient in gradients)
        built.step(1e-3)
        kept = [value for name, value in built.state().items() if not name.endswith("step")]
        most = max(most, before_the_step + sum(value.nbytes for value in kept))
        built.zero_grad()
    most += sum(value.nbytes for value in model.parameters())
    count = sum(value.numel() for value in model.parameters())
    block = max(sum(value.numel() for value in block.values()) for block in optimizers.blocks(model))
    size = ModelSize(count, 0, 0, 0, 0, block=block)
    # the copies' gradients of weights in bfloat16 are dropped within the step
    dropped = 4 * block if (weights, optimizer) == ("bfloat16", "badam") else 0
    assert most + dropped == round(training_gigabytes(size, settings) * 1e9)
