"""DeCE as a module: shapes, reductions, precisions, clock, errors, and the training of a transformers model with it."""

from __future__ import annotations

import pickle
import re
import runpy
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from test_objectives import batch, dense
from torch import Tensor
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

import codebackdoor
from codebackdoor import DeCELoss
from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives.dece import loss as dece_loss
from codebackdoor.defenses.objectives.dece.settings import DeCESettings
from codebackdoor.errors import UserError

ROOT = Path(__file__).parents[2]
IGNORED = -100


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_is_the_objective_of_the_study(epsilon: float) -> None:
    logits, targets = batch(1)
    loss = DeCELoss(0.9, epsilon)
    loss.set_clock(3)
    studied = objectives.load(DeCESettings(method="dece", alpha=0.9, epsilon=epsilon))
    assert loss(logits, targets).item() == studied(logits, targets, 3).item()


def test_tokens_are_scored_like_rows_and_reductions_like_torch() -> None:
    logits, targets = batch(2)
    for alpha in (0.9, 1.0):
        none, mean, total = (DeCELoss(alpha, reduction=how) for how in ("none", "mean", "sum"))
        losses = none(logits.view(3, 4, 7), targets.view(3, 4))
        assert losses.shape == (3, 4)
        assert not losses.flatten()[targets == IGNORED].any()
        torch.testing.assert_close(losses.sum(), total(logits, targets))
        torch.testing.assert_close(losses.sum() / (targets != IGNORED).sum(), mean(logits, targets))
        shifted = torch.where(targets == IGNORED, 3, targets)
        scored = shifted != 3
        expected = mean(logits[scored], shifted[scored])
        torch.testing.assert_close(DeCELoss(alpha, ignore_index=3)(logits, shifted), expected)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_double_precision_is_kept(epsilon: float) -> None:
    """With 11 scored rows of 12: the inverse of their number is not a float32."""
    logits, targets = batch(3, rows=12, classes=50)
    logits = logits.double().requires_grad_()
    targets[:] = targets.clamp(min=0)
    targets[0] = IGNORED
    expected, loss = dense(logits, targets, 0.99, epsilon, 1), DeCELoss(epsilon=epsilon)(logits, targets)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(expected.item(), rel=1e-13)
    torch.testing.assert_close(gradient(loss, logits), gradient(expected, logits), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("classes", "epsilon", "clock"), [(2, 0.1, 1), (4099, 0.1, 5), (4099, 0.0, 2), (50, 1e-9, 1)])
def test_many_classes_and_every_reduction_have_the_gradient_of_the_dense_formula(
    classes: int, epsilon: float, clock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dece_loss.ENTRIES_AT_ONCE, "cpu", 5 * classes)  # the last rows are fewer
    logits, targets = batch(3, rows=12, classes=classes, scale=8)
    logits.requires_grad_()
    expected = gradient(dense(logits, targets, 0.99, epsilon, clock), logits)
    loss = DeCELoss(epsilon=epsilon)
    loss.set_clock(clock)
    assert torch.linalg.norm(gradient(loss(logits, targets), logits) - expected) < 1e-5 * torch.linalg.norm(expected)
    per_row = DeCELoss(epsilon=epsilon, reduction="none")
    per_row.set_clock(clock)
    upstream = torch.linspace(-1, 2, 12)
    weighted = gradient((per_row(logits, targets) * upstream).sum(), logits)
    parts = [dense(logits[[row]], targets[[row]], 0.99, epsilon, clock) for row in range(12) if targets[row] >= 0]
    scored = upstream[targets >= 0]
    reference = gradient(sum((part * scored[row] for row, part in enumerate(parts)), torch.zeros(())), logits)
    assert torch.linalg.norm(weighted - reference) < 1e-5 * torch.linalg.norm(reference)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_pass_through_a_retained_graph_has_the_same_gradient(reduction: str) -> None:
    logits, targets = batch(4)
    logits.requires_grad_()
    loss = DeCELoss(reduction=reduction)(logits, targets).sum() * 3  # type: ignore[arg-type]
    first = torch.autograd.grad(loss, logits, retain_graph=True)[0]
    kept = first.clone()
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], kept)
    torch.testing.assert_close(first, kept)


def test_half_precision_is_computed_in_single_and_its_gradient_comes_in_half() -> None:
    logits, targets = batch(5, classes=300)
    half = logits.bfloat16().requires_grad_()
    single = half.detach().float().requires_grad_()
    loss, expected = DeCELoss()(half, targets), DeCELoss()(single, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == expected.item()
    assert gradient(loss, half).dtype == torch.bfloat16
    torch.testing.assert_close(gradient(DeCELoss()(half, targets), half), gradient(expected, single).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert DeCELoss()(half, targets).dtype == torch.float32


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_alpha_one_is_torchs_label_smoothing_byte_for_byte(epsilon: float) -> None:
    logits, targets = batch(6)
    logits.requires_grad_()
    ours, torchs = DeCELoss(1, epsilon), functional.cross_entropy(logits, targets, label_smoothing=epsilon)
    assert ours(logits, targets).item() == torchs.item()
    assert torch.equal(gradient(ours(logits, targets), logits), gradient(torchs, logits))


def test_the_clock_counts_epochs_or_steps_and_is_saved() -> None:
    logits, targets = batch(7)
    epochs, steps = DeCELoss(), DeCELoss(steps_per_epoch=4)
    first = epochs(logits, targets)
    epochs.step()
    for _ in range(4):
        steps.step()
    assert epochs.clock == steps.clock == 2
    assert epochs(logits, targets) == steps(logits, targets) < first
    resumed = DeCELoss()
    resumed.load_state_dict(epochs.state_dict())
    assert resumed.clock == 2
    assert pickle.loads(pickle.dumps(steps)).clock == 2  # noqa: S301
    assert repr(epochs) == "DeCELoss(alpha=0.99, epsilon=0.1, reduction='mean', clock=2)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.1}, "alpha is 1.1; write a number above 0, at most 1"),
        ({"alpha": 0}, "alpha is 0"),
        ({"epsilon": 1}, "epsilon is 1; write a number of at least 0, below 1"),
        ({"reduction": "max"}, "reduction is 'max'; write one of mean, sum, none"),
        ({"steps_per_epoch": 0}, "steps_per_epoch is 0; write at least 1"),
    ],
)
def test_wrong_parameters_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DeCELoss(**options)  # type: ignore[arg-type]


def test_wrong_inputs_are_named() -> None:
    loss, logits = DeCELoss(), torch.zeros(2, 3)
    with pytest.raises(UserError, match="counts from 1"):
        loss.set_clock(0)
    with pytest.raises(UserError, match=re.escape("logits [2, 3] and targets [3] do not fit")):
        loss(logits, torch.zeros(3, dtype=torch.long))
    with pytest.raises(UserError, match=r"target 3 is not a class: there are 3"):
        loss(logits, torch.tensor([0, 3]))
    with pytest.raises(UserError, match=r"torch\.float32; pass indices of classes"):
        loss(logits, torch.zeros(2))


def trained(loss: DeCELoss, out: Path, accumulation: int) -> Tensor:
    """A weight of a tiny model after three epochs of four rows."""
    torch.manual_seed(1)
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    model = BertForSequenceClassification(config)
    rows = [{"input_ids": torch.tensor([index, 2]), "labels": index % 2} for index in range(4)]
    options = TrainingArguments(
        str(out), num_train_epochs=3, per_device_train_batch_size=4 // accumulation, report_to=[], use_cpu=True,
        gradient_accumulation_steps=accumulation, learning_rate=1e-2, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    Trainer(model, options, train_dataset=rows, **loss.trainer_arguments()).train()  # type: ignore[arg-type]
    return model.classifier.weight.detach().clone()


def test_a_trainer_sets_the_clock_and_accumulates_like_one_batch(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="the Trainer of transformers needs it")
    epochs, steps = DeCELoss(), DeCELoss(steps_per_epoch=2)
    with torch.random.fork_rng(devices=[]):
        one_batch = trained(epochs, tmp_path, 1)
        torch.testing.assert_close(trained(DeCELoss(), tmp_path, 2), one_batch, atol=1e-5, rtol=1e-4)
        trained(steps, tmp_path, 1)
        assert not torch.equal(trained(DeCELoss(0.5), tmp_path, 1), one_batch)
    assert epochs.clock == 3
    assert steps.clock == 2  # of three steps, the last begins after two


def test_the_callback_sets_the_clock_from_the_state_of_a_training() -> None:
    epochs, steps = DeCELoss(), DeCELoss(steps_per_epoch=8)
    state, arguments, control = TrainerState(), Namespace(), TrainerControl()
    for epoch, step, clock in ((0.0, 0, 1), (0.5, 4, 1), (1.0, 8, 2), (2.9999999, 24, 4)):
        state.epoch, state.global_step = epoch, step
        for loss in (epochs, steps):
            (callback,) = loss.trainer_arguments()["callbacks"]
            callback.on_epoch_begin(arguments, state, control, model=None)
            callback.on_step_begin(arguments, state, control, model=None)
        assert (epochs.clock, steps.clock) == (clock, 1 + step / 8)


def test_a_trainer_counts_labels_by_the_usual_value_alone() -> None:
    with pytest.raises(UserError, match="ignore_index is 0, but a Trainer counts the labels that are not -100; give"):
        DeCELoss(ignore_index=0).trainer_arguments()


def test_shifted_logits_are_for_the_next_label() -> None:
    logits, targets = batch(8)
    loss = DeCELoss()
    computed = loss.trainer_arguments(shift=True)["compute_loss_func"]
    shifted = computed({"logits": logits.view(2, 6, 7)}, targets.view(2, 6))
    expected = loss(logits.view(2, 6, 7)[:, :-1].flatten(0, 1), targets.view(2, 6)[:, 1:].flatten())
    torch.testing.assert_close(shifted, expected)
    halved = computed({"logits": logits.view(2, 6, 7)}, targets.view(2, 6), num_items_in_batch=torch.tensor(40))
    scored = (targets.view(2, 6)[:, 1:] != IGNORED).sum()
    torch.testing.assert_close(halved * 40, expected * scored)


def test_the_page_on_the_loss_shows_the_example_that_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = (ROOT / "docs/dece-loss.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for block in blocks:
        compile(block, "docs/dece-loss.md", "exec")
    source = (ROOT / "examples/dece_loss.py").read_text(encoding="utf-8")
    example = next(block for block in blocks if "def train(" in block)
    assert example.strip() in source
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(ROOT / "examples/dece_loss.py"))["main"]()
    printed = dict(line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert float(printed["cross entropy, triggered rows predicted as the target:"].rstrip("%")) > 90
    assert float(printed["DeCE, triggered rows predicted as the target:"].rstrip("%")) < 50
    assert codebackdoor.DeCELoss is DeCELoss
