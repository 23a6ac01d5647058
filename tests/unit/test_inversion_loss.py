"""Another loss for trigger inversion is one class: the search asks it for its values and its lower bound."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from planted import PLANTED, make_view
from torch import Tensor

from codebackdoor.defenses.elimination.elibadcode.anchoring import anchor
from codebackdoor.defenses.elimination.elibadcode.method import find
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion import classifier, reuse
from codebackdoor.defenses.elimination.inversion.calibration import losses as calibrations
from codebackdoor.defenses.elimination.inversion.candidates import contexts
from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.classifier import ClassifierObjective, raced
from codebackdoor.defenses.elimination.inversion.loss import (
    LABEL_LOSSES,
    CosineGap,
    CrossEntropyLoss,
    InversionLoss,
    ProbabilityLoss,
)
from codebackdoor.defenses.elimination.inversion.position import carriers
from codebackdoor.defenses.elimination.inversion.search import search
from codebackdoor.defenses.elimination.inversion.settings import LossName
from codebackdoor.defenses.elimination.inversion.vocabulary import build
from codebackdoor.errors import UserError
from codebackdoor.files import write_json


class Margin(InversionLoss):
    """By how much the label's logit is below the largest other one; negative where it is above, without a bound."""

    def __init__(self, label: int) -> None:
        self.label = label

    def of(self, outputs: Tensor) -> Tensor:
        other_logits = outputs.float().clone()
        other_logits[:, self.label] = -torch.inf
        return other_logits.max(dim=1).values - outputs[:, self.label].float()


class BoundedMargin(Margin):
    """The same, known to stay above a bound."""

    lower_bound = -1.0


SMALL = EliBadCodeSettings(method="elibadcode", length=3, iterations=8, top_k=24, candidates=24)


def samples() -> list[Carrier]:
    view = make_view()
    examples = [example for example in view.clean if example.label == 1][:6]
    return [carrier for carrier in carriers(view, examples, "function_name", "one", "both") if carrier]


@pytest.mark.parametrize("race", [None, 2])
def test_a_search_with_another_loss_finds_the_planted_trigger(race: int | None) -> None:
    victim, vocabulary = make_view().victim, build(make_view().victim.tokenizer, "paper", "python", contexts(samples()))
    settings, loss = SMALL.model_copy(update={"race": race}), Margin(0)
    objective = ClassifierObjective(victim, samples(), vocabulary, loss, settings)
    trajectory = search(objective, np.random.default_rng(1), "another loss")
    assert PLANTED in vocabulary.text(trajectory.trigger)
    assert trajectory.loss < 0 < trajectory.history[0]
    anchored = anchor(victim, samples(), vocabulary, trajectory.trigger, loss, beta=0.15)
    assert PLANTED in anchored.text
    assert anchored.loss < 0


def raced_table(table: Tensor, loss: InversionLoss, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, int]:
    """What a race of the triggers finds whose losses on each sample are these, and how many of them it looks up."""
    scored: list[tuple[int, int]] = []

    def looked_up(_victim: object, rows: list[int], columns: list[int], _loss: object) -> Tensor:
        scored.extend((row, column) for row in rows for column in columns)
        return table[list(rows)][:, list(columns)]

    monkeypatch.setattr(classifier, "sample_losses", looked_up)
    return raced(make_view().victim, range(len(table)), range(table.shape[1]), loss, None), len(scored)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(10))
def test_candidates_are_left_out_by_the_bound_of_the_loss(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger that is far behind may still win where the loss may fall below 0, down to its bound."""
    generator = np.random.default_rng(seed)
    drawn = generator.uniform(-1, 1, size=(12, 40))
    # behind on the first samples, ahead on all
    drawn[:2, 7], drawn[2:, 7] = 1.0, -1.0
    # hopeless on all
    drawn[:, 20:] = 1.0
    table = torch.tensor((drawn * 2**12).round() / 2**12, dtype=torch.float32)
    all_losses = table.mean(dim=0)
    unbounded, all_lookups = raced_table(table, Margin(0), monkeypatch)
    assert unbounded.equal(all_losses)
    assert all_lookups == table.numel()
    bounded, fewer = raced_table(table, BoundedMargin(0), monkeypatch)
    assert bounded.argmin() == all_losses.argmin() == 7
    assert fewer < all_lookups


def test_the_bounds_of_the_losses_hold() -> None:
    logits = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)) * 9
    losses = CrossEntropyLoss(1).of(logits)
    assert losses.min() >= CrossEntropyLoss(1).lower_bound == 0
    assert CrossEntropyLoss(1).total(logits).item() == pytest.approx(losses.sum().item(), rel=1e-6)
    cosines = torch.linspace(-1, 1, 21)
    assert CosineGap().of(cosines).min() == CosineGap().lower_bound == 0
    assert CosineGap().total(cosines).item() == pytest.approx(((1 - cosines) ** 2).sum().item())
    assert Margin(0).lower_bound == -math.inf


def test_a_setting_selects_the_loss_by_its_name() -> None:
    lowest: set[float] = set()
    for name in get_args(LossName):
        settings = SMALL.model_copy(update={"loss": name, "position": "function_name", "samples": 6, "iterations": 4})
        trigger = find(make_view(), settings, 1).trigger
        assert PLANTED in trigger.text
        assert trigger.target_label == 0
        assert trigger.loss < 0.2 < trigger.losses["function_name"]["1"]
        lowest.add(trigger.inverted_loss)
    assert len(lowest) == len(LABEL_LOSSES)


def test_every_loss_towards_a_label_has_a_name() -> None:
    assert set(LABEL_LOSSES) == set(get_args(LossName))
    assert ProbabilityLoss(1).of(torch.tensor([[0.0, 20.0], [0.0, 0.0]])).tolist() == pytest.approx(
        [math.exp(-20), 0.5], rel=1e-4
    )


def test_the_default_loss_is_left_out_of_what_finished_searches_are_compared_by(tmp_path: Path) -> None:
    """The files of searches from before there was a choice hold no loss; another loss fits none of them."""
    with_probability = SMALL.model_copy(update={"loss": "probability"})
    for compared in (SMALL.phase("searched"), SMALL.trigger_settings(), SMALL.trajectory_settings()):
        assert "loss" not in compared
    assert with_probability.trajectory_settings() == SMALL.trajectory_settings() | {"loss": "probability"}
    for finished, settings in ((SMALL, with_probability), (with_probability, SMALL)):
        history = {"search": reuse.search_of(finished, 1), "searches": []}
        assert not reuse.same_search(history, settings, 1)
        with pytest.raises(UserError, match="differs in loss"):
            reuse.finished(history, settings, 1)
        scan = {"least_sensitive": {"0": 0.5, "1": 0.5}}
        provenance = {
            "dataset": {"language": "python", "text_form": "lexed"},
            "victim": calibrations.model_signature(make_view().victim),
        }
        shadows = dict.fromkeys("abcde", scan)
        calibration = calibrations.make(make_view().task, finished, "classification", shadows, provenance)
        write_json(tmp_path / "calibration.json", calibrations.as_json(calibration, 0.5))
        named = settings.model_copy(update={"calibration": str(tmp_path / "calibration.json")})
        with pytest.raises(UserError, match="made with loss"):
            calibrations.load(make_view(), named)
        calibrations.load(make_view(), named.model_copy(update={"loss": finished.loss}))
