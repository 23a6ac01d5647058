"""Objectives against torch's losses and against their formulas written out, and the gradients of the robust ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives import Objective
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.defenses.objectives.dece.settings import DeCESettings
from codebackdoor.defenses.objectives.gce.settings import GceSettings
from codebackdoor.defenses.objectives.in_trust.settings import InTrustSettings
from codebackdoor.types import IGNORED


def dece(alpha: float = 0.99, epsilon: float = 0.1) -> Objective:
    return objectives.load(DeCESettings(method="dece", alpha=alpha, epsilon=epsilon))


def cross_entropy() -> Objective:
    return objectives.load(CrossEntropySettings(method="cross_entropy"))


def gce(q: float = 0.7) -> Objective:
    return objectives.load(GceSettings(method="gce", q=q))


def in_trust(alpha: float = 1.0, beta: float = 0.8, delta: float = 0.5) -> Objective:
    return objectives.load(InTrustSettings(method="in_trust", alpha=alpha, beta=beta, delta=delta))


def dense(logits: Tensor, targets: Tensor, alpha: float, epsilon: float, epoch: int) -> Tensor:
    """The paper's three formulas written out, in double precision."""
    scored = targets != IGNORED
    p = logits[scored].double().softmax(-1)
    smooth = (1 - epsilon) * functional.one_hot(targets[scored], logits.shape[1]).double() + epsilon / logits.shape[1]
    blended = alpha**epoch * p + (1 - alpha**epoch) * smooth
    return -(torch.xlogy(smooth, blended)).sum(-1).mean()


def batch(seed: int, rows: int = 12, classes: int = 7, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator) * scale
    targets = torch.randint(0, classes, (rows,), generator=generator)
    targets[torch.randperm(rows, generator=generator)[: rows // 3]] = IGNORED
    return logits, targets


def trained(loss: Objective, steps: int = 6) -> list[Tensor]:
    """Losses and weights of a small model over several optimizer steps and epochs, padding included."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 7))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    values: list[Tensor] = []
    for step in range(steps):
        _, targets = batch(step)
        inputs = torch.randn(12, 5, generator=torch.Generator().manual_seed(100 + step))
        value = loss(model(inputs), targets, step // 2 + 1)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values += [value.detach(), *(parameter.detach().clone() for parameter in model.parameters())]
    return values


def torch_cross_entropy(smoothing: float) -> Objective:
    return lambda logits, targets, epoch: functional.cross_entropy(logits, targets, label_smoothing=smoothing)


@pytest.mark.parametrize(
    ("ours", "smoothing"),
    [(cross_entropy(), 0.0), (dece(1, 0), 0.0), (dece(1, 0.1), 0.1)],
    ids=["cross_entropy", "dece without both", "label smoothing alone"],
)
def test_equals_torch_over_several_steps_with_padding(ours: Objective, smoothing: float) -> None:
    with torch.random.fork_rng(devices=[]):
        for value, expected in zip(trained(ours), trained(torch_cross_entropy(smoothing)), strict=True):
            torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)


def test_approaches_cross_entropy_as_alpha_approaches_one() -> None:
    logits, targets = batch(1)
    limit = cross_entropy()(logits, targets, 1)
    torch.testing.assert_close(dece(1 - 1e-12, 0)(logits, targets, 1), limit, atol=1e-5, rtol=0)
    assert dece(0.99, 0)(logits, targets, 1) < limit


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    alpha=st.floats(0.01, 1),
    epsilon=st.floats(0, 0.5),
    epoch=st.integers(1, 20),
    scale=st.floats(0.1, 30),
)
def test_loss_and_gradient_equal_the_dense_formula(
    seed: int, alpha: float, epsilon: float, epoch: int, scale: float
) -> None:
    logits, targets = batch(seed, scale=scale)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss, expected = dece(alpha, epsilon)(ours, targets, epoch), dense(theirs, targets, alpha, epsilon, epoch)
    loss.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("epoch", [1, 5])
def test_gradient_of_a_probability_is_bounded(epsilon: float, epoch: int) -> None:
    """The derivatives g_i by the probabilities, from those by the logits: dL/dz_j / p_j = g_j - sum_i p_i g_i."""
    weight = 0.99**epoch
    bound = weight / (1 - weight)
    for small in (1e-300, 1e-12, 1e-3, 0.5):
        p = torch.tensor([[small, *[(1 - small) / 4] * 4]], dtype=torch.double)
        logits = p.log().requires_grad_()
        (gradient,) = torch.autograd.grad(dece(0.99, epsilon)(logits, torch.tensor([0]), epoch), logits)
        label, rest = (gradient / p)[0, :2].tolist()
        smooth, spread = 1 - epsilon + epsilon / 5, epsilon / 5
        of_label = -weight * smooth / (weight * small + (1 - weight) * smooth)
        of_rest = -weight * spread / (weight * p[0, 1].item() + (1 - weight) * spread)
        assert label - rest == pytest.approx(of_label - of_rest, rel=1e-9)
        assert -bound * (1 + 1e-12) <= min(of_label, of_rest)
        if small <= 1e-12:
            assert of_label == pytest.approx(-bound, rel=1e-6)


@pytest.mark.parametrize(
    ("alpha", "bounds"),
    [(0.99, {1: 99.0, 2: 49.25, 5: 19.40, 20: 4.49}), (0.8, {1: 4.0, 2: 1.78})],
    ids=["paper", "released"],
)
def test_the_bound_of_a_gradient_falls_with_the_epochs(alpha: float, bounds: dict[int, float]) -> None:
    """Without smoothing, only the derivative by the label's probability is left: -alpha^e / (1 - alpha^e)."""
    for epoch, bound in bounds.items():
        p = torch.tensor([[1e-12, *[(1 - 1e-12) / 4] * 4]], dtype=torch.double)
        logits = p.log().requires_grad_()
        (gradient,) = torch.autograd.grad(dece(alpha, 0.0)(logits, torch.tensor([0]), epoch), logits)
        label, rest = (gradient / p)[0, :2].tolist()
        assert label - rest == pytest.approx(-bound, abs=0.005)


def test_gradient_stays_finite_where_the_label_is_impossible() -> None:
    logits = torch.tensor([[-1e4, 0.0, 50.0]], requires_grad=True)
    value = dece()(logits, torch.tensor([0]), 1)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_mean_is_over_real_tokens_only() -> None:
    logits, targets = batch(3)
    padded = torch.cat([logits, torch.full((36, 7), 5.0)]), torch.cat([targets, torch.full((36,), IGNORED)])
    for loss in (cross_entropy(), dece(), dece(1, 0.1), dece(0.99, 0), gce(), in_trust()):
        torch.testing.assert_close(loss(logits, targets, 2), loss(*padded, 2))


def test_half_precision_logits_are_scored_in_single_precision() -> None:
    logits, targets = batch(4)
    for loss in (cross_entropy(), dece(), gce(), in_trust()):
        value = loss(logits.bfloat16(), targets, 1)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(logits.bfloat16().float(), targets, 1))


def test_least_loss_is_at_the_smoothed_label() -> None:
    """Where p equals y', p' is y' too, and the loss is the entropy of y': no distribution does better."""
    smooth = torch.full((1, 5), 0.1 / 5)
    smooth[0, 2] += 0.9
    best = dece()(smooth.log(), torch.tensor([2]), 3).item()
    assert best == pytest.approx(-(smooth * smooth.log()).sum().item(), abs=1e-6)
    for seed in range(20):
        assert dece()(batch(seed, 1, 5)[0], torch.tensor([2]), 3).item() >= best


def test_epochs_count_from_one() -> None:
    with pytest.raises(ValueError, match="from 1"):
        dece()(torch.zeros(1, 2), torch.tensor([0]), 0)
    assert math.isfinite(dece()(torch.zeros(1, 2), torch.tensor([0]), 1).item())


def dense_gce(logits: Tensor, targets: Tensor, q: float) -> Tensor:
    """Equation 6 of Zhang and Sabuncu, in double precision."""
    p = logits.double().softmax(-1)[torch.arange(len(targets)), targets]
    return ((1 - p**q) / q).mean()


def dense_in_trust(logits: Tensor, targets: Tensor, alpha: float, beta: float, delta: float) -> Tensor:
    """Both terms with a dense one-hot label, in double precision."""
    p = logits.double().softmax(-1)
    label = functional.one_hot(targets, logits.shape[1]).double()
    distrust = -(p * (delta * p + (1 - delta) * label).log()).sum(-1)
    return (alpha * functional.cross_entropy(logits.double(), targets, reduction="none") + beta * distrust).mean()


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000), q=st.floats(0.05, 1), alpha=st.floats(0.1, 2), beta=st.floats(0, 2),
    delta=st.floats(0.05, 0.95), scale=st.floats(0.1, 8),
)  # fmt: skip
def test_losses_for_noisy_labels_and_their_gradients_equal_the_dense_formulas(
    seed: int, q: float, alpha: float, beta: float, delta: float, scale: float
) -> None:
    logits, targets = batch(seed, scale=scale)
    scored = targets != IGNORED
    for ours, formula in (
        (gce(q), lambda rows: dense_gce(rows, targets[scored], q)),
        (in_trust(alpha, beta, delta), lambda rows: dense_in_trust(rows, targets[scored], alpha, beta, delta)),
    ):
        left, right = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        loss, expected = ours(left, targets, 1), formula(right[scored])
        loss.backward()  # type: ignore[no-untyped-call]
        expected.backward()
        torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(left.grad, right.grad, atol=1e-5, rtol=1e-3)


def test_generalized_cross_entropy_lies_between_cross_entropy_and_the_mean_absolute_error() -> None:
    logits, targets = batch(2)
    torch.testing.assert_close(gce(1e-6)(logits, targets, 1), cross_entropy()(logits, targets, 1), atol=1e-4, rtol=0)
    scored = targets != IGNORED
    p = logits.softmax(-1)[scored, targets[scored]]
    torch.testing.assert_close(gce(1.0)(logits, targets, 1), (1 - p).mean())


def test_without_distrust_in_trust_is_cross_entropy() -> None:
    logits, targets = batch(2)
    torch.testing.assert_close(in_trust(beta=0.0)(logits, targets, 1), cross_entropy()(logits, targets, 1))


@pytest.mark.parametrize(("loss", "most"), [(gce(0.7), 1 / 0.7), (in_trust(1e-9, 1.0, 0.5), 2 * math.log(2))])
def test_an_impossible_label_costs_a_bounded_amount(loss: Objective, most: float) -> None:
    logits = torch.tensor([[-1e4, 0.0, 50.0]], requires_grad=True)
    value = loss(logits, torch.tensor([0]), 1)
    value.backward()  # type: ignore[no-untyped-call]
    assert 0 < value.item() <= most * (1 + 1e-6)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
