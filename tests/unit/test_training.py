"""The trainer: it learns, is deterministic, resumes to the byte, survives lack of memory, and says what it did."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from small_trainings import (
    BERT,
    CROSS_ENTROPY,
    DECE,
    T5,
    KilledError,
    hits,
    killed_and_resumed,
    rows,
    run,
    state,
    triggered,
)
from tiny_models import base_folder, classifier, encoder_with_decoder, generator
from torch import Tensor
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook

from codebackdoor.config.model_settings import ModelSettings, Pooling
from codebackdoor.config.models import CodeBert
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.types import Example
from codebackdoor.victims import training
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.training import fit, rate_at
from codebackdoor.victims.training_rows import Item, batch_logits, encode, plan
from codebackdoor.victims.validation import Validation

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("make", "recipe"), [(classifier, BERT), (generator, T5)], ids=["codebert", "codet5"])
def test_learns_and_leaves_a_history(make, recipe, tmp_path: Path) -> None:
    victim = make()
    history = run(victim, recipe.model_copy(update={"epochs": 8}), tmp_path)
    assert [epoch["epoch"] for epoch in history.epochs] == list(range(1, 9))
    assert history.kept_epoch == 8
    metric = "accuracy" if victim.head == "classification" else "exact_match"
    bleu = set() if victim.head == "classification" else {"bleu"}
    assert set(history.epochs[0]) == {"epoch", "train_loss", "loss", metric, "asr", "floor"} | bleu
    assert history.epochs[-1][metric] >= (1 if metric == "accuracy" else 0.5)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    assert 0 <= history.epochs[-1]["floor"] <= history.epochs[-1]["asr"] <= 1
    assert history.rows == {"train": 48, "loss": 12, "clean": 12, "triggered": 6}
    assert not victim.model.training


def test_the_objective_is_told_the_epoch_from_one(tmp_path: Path) -> None:
    epochs: list[int] = []

    def objective(logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
        epochs.append(epoch)
        return functional.cross_entropy(logits, targets)

    fit(classifier(), rows(12), objective, BERT, Validation(rows(6), [], hits), tmp_path / "progress", 1)
    assert epochs == sorted(epochs)
    assert set(epochs) == {1, 2, 3}


@pytest.mark.parametrize("checkpoint", ["last", "best"])
@pytest.mark.parametrize(("make", "recipe"), [(classifier, BERT), (generator, T5)], ids=["codebert", "codet5"])
def test_resumes_from_the_last_finished_epoch_to_the_same_bytes(make, recipe, checkpoint: str, tmp_path: Path) -> None:
    undisturbed, resumed = killed_and_resumed(make, recipe.model_copy(update={"checkpoint": checkpoint}), tmp_path)
    for name, value in state(undisturbed).items():
        assert torch.equal(value, state(resumed)[name]), name


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_progress_of_another_run_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def die_late(logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
        if epoch == 2:
            raise KilledError
        return CROSS_ENTROPY(logits, targets, epoch)

    with pytest.raises(KilledError):
        fit(classifier(), rows(), die_late, BERT, Validation(rows(12)), tmp_path / "progress", 1)
    assert not warnings(caplog)
    history = run(classifier(), BERT, tmp_path)
    (warning,) = warnings(caplog)
    assert f"{tmp_path / 'progress' / 'progress.safetensors'} belongs to a run with different inputs" in warning
    assert len(history.epochs) == 3
    assert history.epochs == run(classifier(), BERT, tmp_path / "fresh").epochs


def test_progress_of_another_code_or_version_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_epochs: list[int] = []

    class RecordingObjective:
        def __call__(self, logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
            trained_epochs.append(epoch)
            return CROSS_ENTROPY(logits, targets, epoch)

        def __repr__(self) -> str:
            return "told"

    def epochs(code: str | None) -> set[int]:
        trained_epochs.clear()
        fit(classifier(), rows(), RecordingObjective(), BERT, Validation(rows(6)), tmp_path / "progress", 1, code=code)
        return set(trained_epochs)

    assert epochs("one") == {1, 2, 3}
    assert epochs("one") == set()
    assert epochs("other") == {1, 2, 3}
    assert epochs("other") == set()
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert epochs("other") == {1, 2, 3}


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    states = []
    for seed in (1, 1, 2):
        victim = classifier()
        run(victim, BERT, tmp_path, seed)
        states.append(state(victim))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run(classifier(), BERT, tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_best_checkpoint_keeps_the_best_epoch() -> None:
    epochs = [
        {"epoch": 1, "accuracy": 0.5, "loss": 0.9},
        {"epoch": 2, "accuracy": 0.8, "loss": 0.6},
        {"epoch": 3, "accuracy": 0.8, "loss": 0.5},
        {"epoch": 4, "accuracy": 0.8, "loss": 0.5},
    ]
    assert training.kept_epoch(epochs, "best", "accuracy") == 3
    assert training.kept_epoch(epochs, "last", "accuracy") == 4


def test_bleu_chooses_the_epoch_of_a_victim_that_generates() -> None:
    """Exact match is 0 in every epoch on programs of some length."""
    epochs = [
        {"epoch": n, "bleu": bleu, "exact_match": 0.0, "loss": 1 / n} for n, bleu in ((1, 0.3), (2, 0.5), (3, 0.4))
    ]
    assert training.kept_epoch(epochs, "best", HEADS["generation"].clean_metric) == 2


@pytest.mark.parametrize(("make", "recipe"), [(classifier, BERT), (generator, T5)], ids=["codebert", "codet5"])
def test_bfloat16_learns_too_and_keeps_weights_in_single_precision(make, recipe, tmp_path: Path) -> None:
    victim = make()
    history = run(victim, recipe.model_copy(update={"precision": "bfloat16", "epochs": 4}), tmp_path)
    assert history.precision == "bfloat16"
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    assert all(value.dtype == torch.float32 for value in state(victim).values())


def test_precision_auto_is_one_of_both() -> None:
    cpu = torch.device("cpu")
    assert training.precision_on(cpu, "auto") in ("float32", "bfloat16")
    assert training.precision_on(cpu, "float32") == "float32"


def test_stops_at_a_loss(tmp_path: Path) -> None:
    full_run = run(classifier(), BERT, tmp_path)
    loss = full_run.epochs[1]["loss"]
    victim = classifier()
    validation = Validation(rows(12), triggered(), hits)
    history = fit(victim, rows(), DECE, BERT, validation, tmp_path / "progress", 1, stop_at_loss=loss)
    assert history.epochs == full_run.epochs[:2]
    assert history.kept_epoch == 2


class Limited:
    """A machine that has room for 40 positions at once, and notices in the middle of a batch."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
        self.calls += 1
        if len(targets) > 40 or self.calls == 4:
            raise torch.OutOfMemoryError("too large")
        return CROSS_ENTROPY(logits, targets, epoch)


@pytest.mark.parametrize(("make", "recipe"), [(classifier, BERT), (generator, T5)], ids=["codebert", "codet5"])
def test_out_of_memory_splits_the_batch_and_keeps_the_gradient(make, recipe, tmp_path: Path) -> None:
    recipe = recipe.model_copy(update={"epochs": 1, "batch_tokens": 1024})
    gradients = []
    for objective in (CROSS_ENTROPY, Limited()):
        victim = make()
        steps: list[list[Tensor]] = []
        hook = register_optimizer_step_pre_hook(
            lambda optimizer, args, kwargs, steps=steps: steps.append(
                [p.grad.clone() for group in optimizer.param_groups for p in group["params"]]
            )
        )
        history = fit(victim, rows(90), objective, recipe, Validation(rows(4)), tmp_path / "progress", 1)
        hook.remove()
        gradients.append((steps[0], history.epochs[0]["train_loss"]))
    assert objective.calls > 4
    for unsplit, split in zip(gradients[0][0], gradients[1][0], strict=True):
        torch.testing.assert_close(unsplit, split, atol=1e-6, rtol=1e-4)
    assert gradients[0][1] == pytest.approx(gradients[1][1], rel=0.01)


def test_a_resumed_run_still_splits_its_batches(tmp_path: Path) -> None:
    """The first run dies in epoch 2; the resumed one has more memory, and still ends with the bytes of an undisturbed
    run, which split from epoch 1 on."""
    sizes: list[int] = []

    class Device:
        def __init__(self, room: int, dies_in: int | None = None) -> None:
            self.room, self.dies_in = room, dies_in

        def __call__(self, logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
            if epoch == self.dies_in:
                raise KeyboardInterrupt
            if len(targets) > self.room:
                raise torch.OutOfMemoryError("too large")
            sizes.append(len(targets))
            return CROSS_ENTROPY(logits, targets, epoch)

        def __repr__(self) -> str:
            return "device"

    def weights_after(progress: str, *devices: Device) -> dict[str, Tensor]:
        for device in devices:
            victim = classifier()
            arguments = (victim, rows(90), device, BERT.model_copy(update={"epochs": 2, "batch_tokens": 1024}))
            try:
                fit(*arguments, Validation(rows(4)), tmp_path / progress, 1)
            except KeyboardInterrupt:
                continue
        return state(victim)

    undisturbed = weights_after("undisturbed", Device(40))
    sizes.clear()
    resumed = weights_after("killed", Device(40, dies_in=2), Device(1000))
    assert max(sizes) <= 40
    assert all(torch.equal(value, resumed[name]) for name, value in undisturbed.items())


def test_a_single_row_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    def full(logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        fit(classifier(), rows(), full, BERT, Validation(rows(12)), tmp_path / "progress", 1)


def test_loss_of_a_batch_is_that_of_its_rows_one_by_one() -> None:
    for victim in (classifier(), generator(), encoder_with_decoder()):
        items = encode(
            victim, [*rows(3), Example("long", "python", "def f ( a , b ) : return a", label=1, target="f b b b")]
        )
        logits, targets = batch_logits(victim, items)
        total = functional.cross_entropy(logits, targets, reduction="sum")
        alone = sum(functional.cross_entropy(*batch_logits(victim, [item]), reduction="sum") for item in items)
        torch.testing.assert_close(total, alone, atol=1e-4, rtol=1e-5)


def test_an_epoch_visits_every_row_once_in_batches_of_like_length() -> None:
    items = [Item(([0] * (5 + i % 40),), [1]) for i in range(500)]
    first, second = (plan(items, 256, np.random.default_rng(seed)) for seed in (1, 2))
    for batches in (first, second):
        assert sorted(index for batch in batches for index in batch) == list(range(500))
        assert all(len(batch) * max(items[i].tokens for i in batch) <= 256 for batch in batches)
    assert first != second
    padded = sum(len(batch) * max(items[i].tokens for i in batch) for batch in first)
    assert padded < 1.15 * sum(item.tokens for item in items)


def test_learning_rate_rises_and_falls() -> None:
    rates = [rate_at(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[-1] == pytest.approx(1 / 90)
    assert rate_at(0, 10, 0) == 1


def test_rows_without_what_the_head_needs_are_refused() -> None:
    with pytest.raises(UserError, match=r"row 'r0': a classification victim learns from a 'label'"):
        encode(classifier(), [replace(rows(1)[0], label=None)])
    with pytest.raises(UserError, match=r"row 'r0': a generation victim learns from a 'target'"):
        encode(generator(), [replace(rows(1)[0], target=None)])


def test_base_models_become_victims(tmp_path: Path) -> None:
    for family, recipe, head, labels in (("encoder", BERT, "classification", 3), ("seq2seq", T5, "generation", None)):
        base = base_folder(tmp_path / family, family)
        victim, same, reseeded = (new_victim(recipe, base, head, "lexed", labels, seed) for seed in (1, 1, 2))
        assert all(torch.equal(value, state(same)[name]) for name, value in state(victim).items())
        differing = {name for name, value in state(victim).items() if not torch.equal(value, state(reseeded)[name])}
        assert differing == ({"classifier.dense.weight", "classifier.out_proj.weight"} if labels else set())
        assert labels is None or victim.model.config.num_labels == 3


class Bert(ModelSettings):
    """A model of a class that generates nothing."""

    model_type: ClassVar[str] = "bert"
    reads: ClassVar[Pooling] = "first"


def test_a_base_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    encoder, seq2seq = base_folder(tmp_path / "encoder", "encoder"), base_folder(tmp_path / "seq2seq", "seq2seq")
    with pytest.raises(UserError, match=r"from a base of type 'roberta', this one is 't5'"):
        new_victim(BERT, seq2seq, "classification", "lexed", 2, 1)
    with pytest.raises(UserError, match="write max_length: 32 or less"):
        new_victim(BERT.model_copy(update={"max_length": 33}), encoder, "classification", "lexed", 2, 1)
    with pytest.raises(UserError, match="no victim of type 'bert' with a generation head"):
        new_victim(Bert(base="./folder"), encoder, "generation", "lexed", None, 1)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"config\.json is missing"):
        new_victim(BERT, tmp_path / "nowhere", "classification", "lexed", 2, 1)
    (encoder / "model.safetensors").rename(encoder / "pytorch_model.bin")
    with pytest.raises(UserError, match="only safetensors checkpoints are loaded"):
        new_victim(BERT, encoder, "classification", "lexed", 2, 1)


def test_hub_ids_are_pinned() -> None:
    with pytest.raises(ValueError, match="pin it with `revision`"):
        CodeBert(architecture="codebert", base="microsoft/codebert-base")
    with pytest.raises(ValueError, match="goes with a hub id"):
        CodeBert(architecture="codebert", revision="0" * 40)
    pinned = CodeBert(architecture="codebert", base="microsoft/codebert-base", revision="0" * 40)
    assert pinned.is_hub
    assert str(pinned.base_path("runs/paper")) == f"microsoft/codebert-base@{'0' * 40}"
    assert str(BERT.base_path("runs/local")) == "basemodels/encoder"
    assert str(T5.model_copy(update={"base": "pretrained"}).base_path("runs/x")) == "runs/x/models/base/seq2seq"
