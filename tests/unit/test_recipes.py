"""What a defense changes in a victim's recipe: Moderate-fitting's three readings, and where the card states them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from test_victims_stage import BERT, DEFECTS, data, hits
from tiny_models import base_folder
from torch.optim.optimizer import register_optimizer_step_pre_hook

from codebackdoor import files
from codebackdoor.config.recipes import UNCHANGED, AdapterSettings, Recipe
from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.defenses.objectives.dece.settings import DeCESettings
from codebackdoor.defenses.objectives.moderate_fitting.settings import ModerateFittingSettings
from codebackdoor.victims import stage
from codebackdoor.victims.stage import TrainingFiles
from codebackdoor.victims.victim import load_victim

__all__ = ["data"]

RECIPE = BERT.model_copy(update={"epochs": 4, "warmup": 0.0, "precision": "float32"})


def moderate(**changes: Any) -> ModerateFittingSettings:
    return ModerateFittingSettings.model_validate({"method": "moderate_fitting", **changes})


def trained(data: Path, out: Path, settings: Any) -> tuple[Path, list[float], int]:
    """A victim's folder, the first learning rates of its steps, and the number of weights that the optimizer has."""
    rates: list[float] = []
    sizes: list[int] = []

    def hook(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        sizes.append(sum(value.numel() for group in optimizer.param_groups for value in group["params"]))

    paths = TrainingFiles(
        data / "train.jsonl",
        data / "valid.jsonl",
        base_folder(data / "encoder", "encoder"),
        out,
        data / "triggered.jsonl",
    )
    handle = register_optimizer_step_pre_hook(hook)
    try:
        stage.train(RECIPE, DEFECTS, objectives.load(settings), paths, 1, hits, recipe=settings.recipe)
    finally:
        handle.remove()
    return out, rates, sizes[0]


@pytest.fixture
def plain(data: Path, tmp_path: Path) -> tuple[Path, list[float], int]:
    return trained(data, tmp_path / "plain", CrossEntropySettings(method="cross_entropy"))


def epochs(folder: Path) -> int:
    return len(files.read_json(folder / "history.json")["epochs"])


def test_a_tenth_of_the_learning_rate_and_nothing_else(data: Path, tmp_path: Path, plain: Any) -> None:
    folder, rates, size = trained(data, tmp_path / "victim", moderate())
    assert rates == pytest.approx([rate / 10 for rate in plain[1]])
    assert (size, epochs(folder)) == (plain[2], epochs(plain[0]))


def test_fewer_passes_and_nothing_else(data: Path, tmp_path: Path, plain: Any) -> None:
    folder, rates, size = trained(data, tmp_path / "victim", moderate(lr_factor=1, passes=0.5))
    assert epochs(folder) == 2
    assert len(rates) == len(plain[1]) / 2
    assert (rates[0], size) == (plain[1][0], plain[2])


def test_adapters_and_nothing_else(data: Path, tmp_path: Path, plain: Any) -> None:
    folder, rates, size = trained(data, tmp_path / "victim", moderate(lr_factor=1, adapters={"rank": 2}))
    assert (rates, epochs(folder)) == (plain[1], epochs(plain[0]))
    # two adapters a layer, and the new head
    assert size == 2 * 2 * (2 * 32 + 32 * 2) + 32 * 32 + 32 + 2 * 32 + 2
    assert size < plain[2] / 4
    assert type(load_victim(folder).model).__name__ == "RobertaForSequenceClassification"
    assert {path.name for path in folder.iterdir()} == {path.name for path in plain[0].iterdir()}


def test_the_card_states_the_recipe_of_the_model_and_of_the_training(data: Path, tmp_path: Path, plain: Any) -> None:
    folder, _, _ = trained(data, tmp_path / "victim", moderate(passes=0.5, adapters={"rank": 2}))
    difference = {
        "lr": {"model": RECIPE.lr, "training": RECIPE.lr * 0.1},
        "epochs": {"model": 4, "training": 2},
        "adapters": {"model": None, "training": AdapterSettings(rank=2).model_dump(mode="json")},
    }
    assert files.read_json(folder / "config.json")["codebackdoor"]["recipe"] == difference
    assert '"epochs": {"model": 4, "training": 2}' in (folder / "README.md").read_text()
    history = files.read_json(folder / "history.json")
    assert (history["recipe"]["lr"], history["training"]) == (RECIPE.lr, difference)
    assert history["objective"] == "ModerateFitting()"
    assert "recipe" not in files.read_json(plain[0] / "config.json")["codebackdoor"]
    assert "training" not in files.read_json(plain[0] / "history.json")


def test_its_loss_is_cross_entropy() -> None:
    logits, targets = torch.randn(6, 5), torch.randint(5, (6,))
    expected = torch.nn.functional.cross_entropy(logits, targets)
    assert torch.equal(objectives.load(moderate())(logits, targets, 1), expected)


def test_a_recipe_that_changes_nothing_returns_the_settings_themselves() -> None:
    assert UNCHANGED.applied(RECIPE) is RECIPE
    assert UNCHANGED.differences(RECIPE) == {}
    assert DeCESettings(method="dece").recipe == UNCHANGED
    by_step = DeCESettings(method="dece", clock="step").recipe
    assert by_step.differences(RECIPE) == {"clock": {"model": "epoch", "training": "step"}}
    assert "clock" not in DeCESettings(method="dece").model_dump()


def test_at_least_one_epoch_remains_and_adapters_are_trained_by_adamw() -> None:
    assert Recipe(passes=0.01).applied(RECIPE).epochs == 1
    badam = RECIPE.model_copy(update={"optimizer": "badam"})
    assert Recipe(adapters=AdapterSettings()).applied(badam).optimizer == "adamw"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr_factor": 1}, "nothing is restricted"),
        ({"lr_factor": 0}, "greater than 0"),
        ({"passes": 1.5}, "less than or equal to 1"),
        ({"adapters": {"rank": -1}}, "greater than 0"),
    ],
)
def test_settings_that_are_no_moderate_fitting(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        moderate(**changes)
