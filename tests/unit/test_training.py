"""The trainer: it learns, is deterministic, resumes to the byte, survives lack of memory, and says what it did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny_models import base_folder, classifier, encoder_with_decoder, generator
from torch import Tensor
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook

from codebackdoor.config.models import CodeBert, CodeT5, ModelSettings, Pooling
from codebackdoor.config.recipes import AdapterSettings
from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.defenses.objectives.dece.settings import DeCESettings
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, Poisoned, Prediction
from codebackdoor.victims import training
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.progress import weights
from codebackdoor.victims.training import History, fit, rate_at
from codebackdoor.victims.training_rows import Item, batch_logits, encode, plan
from codebackdoor.victims.validation import Validation
from codebackdoor.victims.victim import Victim


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    found = [row for row in rows() if row.label == 1][:count]
    return [
        Poisoned(replace(row, code=f"x {row.code}", label=0, target="f a"), row.id, "test", "injected", 1, row.target)
        for row in found
    ] + [Poisoned(found[0], found[0].id, "test", "failed", 1, found[0].target)]


def hits(prediction: Prediction, row: Poisoned) -> bool:
    if prediction.label is not None:
        return prediction.label == row.example.label
    return prediction.text == row.example.target


def run(victim: Victim, recipe: CodeBert | CodeT5, folder: Path, seed: int = 1) -> History:
    validation = Validation(rows(12), triggered(), hits)
    return fit(victim, rows(), DECE, recipe, validation, folder / "progress", seed)


def state(victim: Victim) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in weights(victim.model).items()}


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


class KilledError(Exception):
    pass


def test_the_objective_is_told_the_epoch_from_one(tmp_path: Path) -> None:
    told: list[int] = []

    def objective(logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
        told.append(epoch)
        return functional.cross_entropy(logits, targets)

    fit(classifier(), rows(12), objective, BERT, Validation(rows(6), [], hits), tmp_path / "progress", 1)
    assert told == sorted(told)
    assert set(told) == {1, 2, 3}


def killed_and_resumed(make, recipe: CodeBert | CodeT5, folder: Path, epoch: int = 3) -> tuple[Victim, Victim]:
    """A victim of an undisturbed training, and one of a training that was killed in an epoch and resumed."""
    undisturbed, killed, resumed = (make(dropout=0.1) for _ in range(3))
    expected = run(undisturbed, recipe, folder / "whole")
    seen: list[int] = []

    class Counting:
        def __call__(self, logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
            seen.append(epoch)
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
    assert set(seen) == set(range(epoch, recipe.epochs + 1))
    assert json.dumps(history.to_json()) == json.dumps(expected.to_json())
    return undisturbed, resumed


@pytest.mark.parametrize("checkpoint", ["last", "best"])
@pytest.mark.parametrize(("make", "recipe"), [(classifier, BERT), (generator, T5)], ids=["codebert", "codet5"])
def test_resumes_from_the_last_finished_epoch_to_the_same_bytes(make, recipe, checkpoint: str, tmp_path: Path) -> None:
    undisturbed, resumed = killed_and_resumed(make, recipe.model_copy(update={"checkpoint": checkpoint}), tmp_path)
    for name, value in state(undisturbed).items():
        assert torch.equal(value, state(resumed)[name]), name


#: Other ways of training: what differs from the recipe above.
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

    def made(dropout: float = 0.0) -> Victim:
        victim = make(dropout=dropout)
        victim.model.to(getattr(torch, recipe.weights))
        return victim

    return made


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
        found: dict[str, set[str]] = {}

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
                found[path.stem] = set(file.keys())
        return found

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


def test_progress_that_lacks_a_part_is_not_used(tmp_path: Path) -> None:
    recipe = BERT.model_copy(update={"optimizer": "badam", "switch_every": 2})
    fresh = run(classifier(), recipe, tmp_path / "fresh")
    run(classifier(), recipe, tmp_path)
    (part,) = [path for path in (tmp_path / "progress").glob("weights.*") if path.stem == "weights.3"]
    part.unlink()
    assert run(classifier(), recipe, tmp_path).epochs == fresh.epochs


def test_progress_of_another_run_is_not_used(tmp_path: Path) -> None:
    def die_late(logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
        if epoch == 2:
            raise KilledError
        return CROSS_ENTROPY(logits, targets, epoch)

    with pytest.raises(KilledError):
        fit(classifier(), rows(), die_late, BERT, Validation(rows(12)), tmp_path / "progress", 1)
    history = run(classifier(), BERT, tmp_path)
    assert len(history.epochs) == 3
    assert history.epochs == run(classifier(), BERT, tmp_path / "fresh").epochs


def test_progress_of_another_code_or_version_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    class Told:
        def __call__(self, logits: Tensor, targets: Tensor, epoch: int) -> Tensor:
            told.append(epoch)
            return CROSS_ENTROPY(logits, targets, epoch)

        def __repr__(self) -> str:
            return "told"

    def epochs(code: str | None) -> set[int]:
        told.clear()
        fit(classifier(), rows(), Told(), BERT, Validation(rows(6)), tmp_path / "progress", 1, code=code)
        return set(told)

    assert epochs("one") == {1, 2, 3}
    assert epochs("one") == set()
    assert epochs("other") == {1, 2, 3}
    assert epochs("other") == set()
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert epochs("other") == {1, 2, 3}


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    found = []
    for seed in (1, 1, 2):
        victim = classifier()
        run(victim, BERT, tmp_path, seed)
        found.append(state(victim))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert any(not torch.equal(value, found[2][name]) for name, value in found[0].items())


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


@pytest.mark.parametrize("clock", ["epoch", "step"])
def test_the_clock_of_steps_grows_evenly_by_one_an_epoch(clock: str, tmp_path: Path) -> None:
    told: list[float] = []

    def objective(logits: Tensor, targets: Tensor, epoch: float) -> Tensor:
        told.append(epoch)
        return functional.cross_entropy(logits, targets)

    recipe = BERT.model_copy(update={"batch_tokens": 64})
    fit(classifier(), rows(), objective, recipe, Validation(rows(6)), tmp_path / "progress", 1, clock=clock)
    steps = len(told) // 3
    expected = [1 + step / steps for step in range(3 * steps)]
    assert told == pytest.approx(expected if clock == "step" else [int(number) for number in expected])
    assert steps > 3
    assert all(isinstance(number, int) for number in told) == (clock == "epoch")


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
    whole = run(classifier(), BERT, tmp_path)
    loss = whole.epochs[1]["loss"]
    victim = classifier()
    validation = Validation(rows(12), triggered(), hits)
    history = fit(victim, rows(), DECE, BERT, validation, tmp_path / "progress", 1, stop_at_loss=loss)
    assert history.epochs == whole.epochs[:2]
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
        seen: list[list[Tensor]] = []
        hook = register_optimizer_step_pre_hook(
            lambda optimiser, args, kwargs, seen=seen: seen.append(
                [p.grad.clone() for group in optimiser.param_groups for p in group["params"]]
            )
        )
        history = fit(victim, rows(90), objective, recipe, Validation(rows(4)), tmp_path / "progress", 1)
        hook.remove()
        gradients.append((seen[0], history.epochs[0]["train_loss"]))
    assert objective.calls > 4
    for one, other in zip(gradients[0][0], gradients[1][0], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert gradients[0][1] == pytest.approx(gradients[1][1], rel=0.01)


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
        one, same, other = (new_victim(recipe, base, head, "lexed", labels, seed) for seed in (1, 1, 2))
        assert all(torch.equal(value, state(same)[name]) for name, value in state(one).items())
        differing = {name for name, value in state(one).items() if not torch.equal(value, state(other)[name])}
        assert differing == ({"classifier.dense.weight", "classifier.out_proj.weight"} if labels else set())
        assert labels is None or one.model.config.num_labels == 3


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
