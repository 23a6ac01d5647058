"""Rows, recipes and trainings of tiny victims that the tests of the trainer share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from codebackdoor.config.models import CodeBert, CodeT5
from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.defenses.objectives.dece.settings import DeCESettings
from codebackdoor.types import Example, Poisoned, Prediction
from codebackdoor.victims.progress import weights
from codebackdoor.victims.training import History, fit
from codebackdoor.victims.validation import Validation
from codebackdoor.victims.victim import Victim

CROSS_ENTROPY = objectives.load(CrossEntropySettings(method="cross_entropy"))
DECE = objectives.load(DeCESettings(method="dece"))
BERT = CodeBert(architecture="codebert", max_length=32, epochs=3, lr=3e-3, batch_tokens=128, precision="float32")
T5 = CodeT5(
    architecture="codet5",
    max_length=32,
    max_target_length=12,
    epochs=3,
    lr=1e-2,
    batch_tokens=256,
    precision="float32",
)


def rows(count: int = 48) -> list[Example]:
    """Label 1 and a changed name where the text says so: something that a tiny model can learn."""
    return [
        Example(
            f"r{i}",
            "python",
            f"def f{i % 5} ( {'b' if i % 2 else 'a'} )",
            label=i % 2,
            target="f b" if i % 2 else "f a",
        )
        for i in range(count)
    ]


def triggered(count: int = 6) -> list[Poisoned]:
    positives = [row for row in rows() if row.label == 1][:count]
    return [
        Poisoned(replace(row, code=f"x {row.code}", label=0, target="f a"), row.id, "test", "injected", 1, row.target)
        for row in positives
    ] + [Poisoned(positives[0], positives[0].id, "test", "failed", 1, positives[0].target)]


def hits(prediction: Prediction, row: Poisoned) -> bool:
    if prediction.label is not None:
        return prediction.label == row.example.label
    return prediction.text == row.example.target


def run(victim: Victim, recipe: CodeBert | CodeT5, folder: Path, seed: int = 1) -> History:
    validation = Validation(rows(12), triggered(), hits)
    return fit(victim, rows(), DECE, recipe, validation, folder / "progress", seed)


def state(victim: Victim) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in weights(victim.model).items()}


class KilledError(Exception):
    pass


def killed_and_resumed(make, recipe: CodeBert | CodeT5, folder: Path, epoch: int = 3) -> tuple[Victim, Victim]:
    """A victim of an undisturbed training, and one of a training that was killed in an epoch and resumed."""
    undisturbed, killed, resumed = (make(dropout=0.1) for _ in range(3))
    expected = run(undisturbed, recipe, folder / "whole")
    epochs: list[int] = []

    class Counting:
        def __call__(self, logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
            epochs.append(epoch)
            return DECE(logits, targets, epoch)

        def __repr__(self) -> str:
            return repr(DECE)

    class Dying(Counting):
        def __call__(self, logits: Tensor, targets: Tensor, number: int) -> Tensor:
            if number == epoch:
                raise KilledError
            return DECE(logits, targets, number)

    arguments = (Validation(rows(12), triggered(), hits), folder / "cut/progress", 1)
    with pytest.raises(KilledError):
        fit(killed, rows(), Dying(), recipe, *arguments)
    assert (folder / "cut/progress/progress.safetensors").is_file()
    history = fit(resumed, rows(), Counting(), recipe, *arguments)
    assert set(epochs) == set(range(epoch, recipe.epochs + 1))
    assert json.dumps(history.to_json()) == json.dumps(expected.to_json())
    return undisturbed, resumed
