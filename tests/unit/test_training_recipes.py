"""The trainer with other optimizers, weights, adapters and clocks: it learns, and resumes to the byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from small_trainings import (
    BERT,
    CROSS_ENTROPY,
    T5,
    KilledError,
    killed_and_resumed,
    rows,
    run,
    state,
)
from tiny_models import classifier, generator
from torch import Tensor
from torch.nn import functional

from codebackdoor.config.models import CodeBert, CodeT5
from codebackdoor.config.recipes import AdapterSettings
from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives.dece.settings import DeCESettings
from codebackdoor.victims.progress import weights
from codebackdoor.victims.training import fit
from codebackdoor.victims.validation import Validation
from codebackdoor.victims.victim import Victim

pytestmark = pytest.mark.usefixtures("one_thread")


#: Other ways of training: what differs from BERT and T5.
WAYS = {
    "badam": {"optimizer": "badam", "switch_every": 2},
    "badam, long blocks": {"optimizer": "badam", "switch_every": 5},
    "adapters": {"adapters": AdapterSettings(rank=4)},
    "bfloat16": {"weights": "bfloat16", "precision": "auto"},
    "badam in bfloat16": {"optimizer": "badam", "switch_every": 5, "weights": "bfloat16", "precision": "auto"},
    "adapters in bfloat16": {"adapters": AdapterSettings(rank=4), "weights": "bfloat16", "precision": "auto"},
}


def in_format(make, recipe: CodeBert | CodeT5):
    """Victims with weights in the recipe's format, as ``new_victim`` loads them."""

    def build(dropout: float = 0.0) -> Victim:
        victim = make(dropout=dropout)
        victim.model.to(getattr(torch, recipe.weights))
        return victim

    return build


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("make", "recipe"), [(classifier, BERT), (generator, T5)], ids=["codebert", "codet5"])
def test_every_way_of_training_resumes_to_the_same_bytes(make, recipe, way: str, tmp_path: Path) -> None:
    changes = {"epochs": 6, "batch_tokens": 90, "checkpoint": "best" if way == "badam" else "last"}
    recipe = recipe.model_copy(update={**WAYS[way], **changes})
    undisturbed, resumed = killed_and_resumed(in_format(make, recipe), recipe, tmp_path, 5)
    begun = state(in_format(make, recipe)())
    assert begun.keys() == state(undisturbed).keys()
    for name, value in state(undisturbed).items():
        assert value.dtype == begun[name].dtype
        assert torch.equal(value, state(resumed)[name]), name
    assert any(not torch.equal(value, begun[name]) for name, value in state(undisturbed).items())
    assert all(parameter.requires_grad for parameter in resumed.model.parameters())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("make", "recipe"), [(classifier, BERT), (generator, T5)], ids=["codebert", "codet5"])
def test_every_way_of_training_learns(make, recipe, way: str, tmp_path: Path) -> None:
    recipe = recipe.model_copy(
        update={**WAYS[way], "epochs": 12, "batch_tokens": 90, "lr": 1e-2 if "adapters" in way else recipe.lr}
    )
    history = run(in_format(make, recipe)(), recipe, tmp_path)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    assert history.precision == ("bfloat16" if "bfloat16" in way else "float32")


def test_a_large_training_writes_no_more_than_it_changed(tmp_path: Path) -> None:
    """Of frozen weights nothing is written, of BAdam's blocks those of the last epoch."""

    def written(**changes: object) -> dict[str, set[str]]:
        tensor_names: dict[str, set[str]] = {}

        def dying(logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
            if epoch == 5:
                raise KilledError
            return CROSS_ENTROPY(logits, targets, epoch)

        recipe = BERT.model_copy(update={"epochs": 12, "batch_tokens": 64, **changes})
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with pytest.raises(KilledError):
            fit(classifier(), rows(), dying, recipe, Validation(rows(4)), folder, 1)
        for path in folder.iterdir():
            with safe_open(path, framework="pt") as file:
                tensor_names[path.stem] = set(file.keys())
        return tensor_names

    names = set(weights(classifier().model))
    plain = written()
    assert plain["weights.4"] == names
    assert plain.keys() == {"progress", "weights.4"}
    adapted = written(adapters=AdapterSettings(rank=2))
    assert all(".parametrizations.weight.0." in name or "classifier." in name for name in adapted["weights.4"])
    assert adapted.keys() == {"progress", "weights.4"}
    # an epoch is 6 steps: blocks 1 and 2, 2 and 3, and so on
    blocks = written(optimizer="badam", switch_every=9, block_order="ascending")
    assert {number: len(blocks[f"weights.{number}"]) for number in (1, 2, 3, 4) if f"weights.{number}" in blocks}
    assert all(part < names for name, part in blocks.items() if name != "progress")
    moments = [name for name in blocks["progress"] if name.endswith("/exp_avg")]
    assert 0 < len(moments) < len(names) / 2


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"damaged")], ids=["missing", "damaged"])
def test_progress_with_an_unusable_part_is_not_used(
    spoil: Callable[[Path], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = BERT.model_copy(update={"optimizer": "badam", "switch_every": 2})
    fresh = run(classifier(), recipe, tmp_path / "fresh")
    run(classifier(), recipe, tmp_path)
    (part,) = [path for path in (tmp_path / "progress").glob("weights.*") if path.stem == "weights.3"]
    spoil(part)
    caplog.clear()
    assert run(classifier(), recipe, tmp_path).epochs == fresh.epochs
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"{part} cannot be read" in warning


@pytest.mark.parametrize("clock", ["epoch", "step"])
def test_the_clock_of_steps_grows_evenly_by_one_an_epoch(clock: str, tmp_path: Path) -> None:
    epochs: list[float] = []

    def objective(logits: Tensor, targets: Tensor, epoch: float) -> Tensor:
        epochs.append(epoch)
        return functional.cross_entropy(logits, targets)

    recipe = BERT.model_copy(update={"batch_tokens": 64})
    fit(classifier(), rows(), objective, recipe, Validation(rows(6)), tmp_path / "progress", 1, clock=clock)
    steps = len(epochs) // 3
    expected = [1 + step / steps for step in range(3 * steps)]
    assert epochs == pytest.approx(expected if clock == "step" else [int(number) for number in expected])
    assert steps > 3
    assert all(isinstance(number, int) for number in epochs) == (clock == "epoch")


def test_dece_is_told_the_time_by_its_clock(tmp_path: Path) -> None:
    by_step = DeCESettings(method="dece", clock="step")
    assert (DeCESettings(method="dece").recipe.clock, by_step.recipe.clock) == ("epoch", "step")
    validation = Validation(rows(6))
    losses = []
    for clock in ("epoch", "step"):
        loss = objectives.load(DeCESettings(method="dece", alpha=0.5, clock=clock))
        history = fit(classifier(), rows(), loss, BERT, validation, tmp_path / clock, 1, clock=clock)
        losses.append([epoch["train_loss"] for epoch in history.epochs])
    assert losses[0] != losses[1]
