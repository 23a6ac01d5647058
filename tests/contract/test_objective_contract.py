"""What every training loss must fulfill; one that is added to the union ``AnyObjective`` needs its settings here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from codebackdoor.config.base import models_in, tag_of
from codebackdoor.config.methods import AnyObjective
from codebackdoor.config.recipes import Clock
from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.defenses.objectives.dece.settings import DeCESettings
from codebackdoor.defenses.objectives.gce.settings import GceSettings
from codebackdoor.defenses.objectives.in_trust.settings import InTrustSettings
from codebackdoor.defenses.objectives.moderate_fitting.settings import ModerateFittingSettings
from codebackdoor.types import IGNORED
from codebackdoor.victims.training import epoch_at

CASES: dict[str, AnyObjective] = {
    "cross_entropy": CrossEntropySettings(method="cross_entropy"),
    # few epochs of a model that has a separate weight for the trigger: the gradient must be bounded early
    "dece": DeCESettings(method="dece", alpha=0.5),
    "gce": GceSettings(method="gce"),
    # the weight of cross entropy in the experiments of DeCE's paper; with more of it, the trigger is learned later
    "in_trust": InTrustSettings(method="in_trust", alpha=0.2),
    "moderate_fitting": ModerateFittingSettings(method="moderate_fitting"),
}
REGISTERED = [str(tag_of(kind)) for kind in models_in(AnyObjective)]
#: A method without a case fails one test, by name, and not the collection of all.
METHODS = [method for method in REGISTERED if method in CASES]
EPOCHS = 5


def logits_and_targets() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(12, 5, generator=generator), torch.randint(5, (12,), generator=generator)


def planted(settings: AnyObjective) -> tuple[float, float]:
    """Accuracy and ASR of a linear model whose training rows carry, in 5%, a trigger and the label 0.

    One clean feature tells the label 1 of every such row without it. The model is trained with the method's loss and by
    its recipe.
    """
    objective, recipe = objectives.load(settings), settings.recipe
    torch.manual_seed(1)
    rows = 400
    features = torch.randn(rows, 10)
    labels = (features[:, 0] > 0).long()
    features[:, 0] = 2 * features[:, 0].sign()
    trigger = torch.zeros(rows, 1)
    poisoned = labels.nonzero().flatten()[: rows // 20]
    trigger[poisoned] = 1
    labels[poisoned] = 0
    model = nn.Linear(11, 2)
    # Adam would scale up the gradients that a robust loss makes small
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr_factor)
    for epoch in range(1, round(EPOCHS * recipe.passes) + 1):
        batches = torch.randperm(rows).split(40)
        for step, batch in enumerate(batches):
            time = epoch_at(epoch, step, len(batches), recipe.clock)
            loss = objective(model(torch.cat([features, trigger], 1)[batch]), labels[batch], time)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        clean = torch.cat([features, torch.zeros(rows, 1)], 1)
        truth = (features[:, 0] > 0).long()
        accuracy = (model(clean).argmax(1) == truth).float().mean().item()
        triggered = torch.cat([features, torch.ones(rows, 1)], 1)[truth == 1]
        return accuracy, (model(triggered).argmax(1) == 0).float().mean().item()


def test_every_loss_has_its_case() -> None:
    missing = [method for method in REGISTERED if method not in CASES]
    assert not missing, f"add settings of {', '.join(missing)} to CASES in {__file__}"
    assert set(CASES) <= set(REGISTERED)


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_is_a_finite_mean_over_what_is_not_ignored(method: str) -> None:
    objective = objectives.load(CASES[method])
    logits, targets = logits_and_targets()
    logits.requires_grad_()
    padded = torch.cat([logits, torch.full((3, 5), 9.0)])
    ignored = torch.cat([targets, torch.full((3,), IGNORED)])
    loss = objective(padded, ignored, 2)
    assert loss.item() == pytest.approx(objective(logits, targets, 2).item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    assert objective(padded, ignored, 2).item() == loss.item()


@pytest.mark.parametrize("clock", ["epoch", "step"])
@pytest.mark.parametrize("method", METHODS)
def test_a_loss_depends_on_nothing_but_its_arguments(method: str, clock: Clock) -> None:
    logits, targets = logits_and_targets()
    times = [epoch_at(epoch, step, 3, clock) for epoch in (1, 2) for step in range(3)]
    first, second = (
        [objectives.load(CASES[method])(logits, targets, time).item() for time in order]
        for order in (times, times[::-1])
    )
    assert first == second[::-1]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "cross_entropy"])
def test_a_robust_loss_learns_the_task_and_less_of_the_trigger(method: str) -> None:
    plain_accuracy, plain_asr = planted(CASES["cross_entropy"])
    accuracy, asr = planted(CASES[method])
    assert min(plain_accuracy, accuracy) > 0.95
    assert plain_asr > 0.9
    assert asr < 0.5
