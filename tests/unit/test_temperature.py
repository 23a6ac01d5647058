"""Logits in a unit of the defender's own: what a constant factor on the last layer changes is nothing."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import make_view, searches, victim
from tiny_models import understanding

from codebackdoor.defenses import elimination
from codebackdoor.defenses.defender_view import checkpoint_view, defender_view, training_view
from codebackdoor.defenses.elimination.dbs.settings import DbsSettings
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.settings import UnlearningSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example
from codebackdoor.victims.inference import class_logits
from codebackdoor.victims.temperature import SPREAD, spread, standardized
from codebackdoor.victims.victim import Victim

SCALES = (0.01, 0.1, 0.25, 3.0, 10.0, 100.0)
SEARCH = {
    "position": "scan_all",
    "samples": 6,
    "length": 2,
    "iterations": 4,
    "unlearning": UnlearningSettings(epochs=0),
}


def scaled(factor: float) -> Victim:
    """The planted victim, its predictions the same, its logits times the factor."""
    copied = replace(victim(), model=copy.deepcopy(victim().model))
    with torch.no_grad():
        for parameter in copied.model.classifier.out_proj.parameters():
            parameter *= factor
    return copied


def scaled_view(factor: float) -> DefenderView:
    samples = make_view().clean
    return replace(make_view(), victim=standardized(scaled(factor), samples))


def test_spread_is_the_root_mean_square_standard_deviation_of_the_log_odds() -> None:
    logits = np.random.default_rng(1).normal(size=(50, 4)) * [1, 2, 3, 4]
    variances = [np.var(logits[:, first] - logits[:, second]) for first, second in itertools.combinations(range(4), 2)]
    assert spread(torch.from_numpy(logits)) == pytest.approx(np.sqrt(np.mean(variances)))


@pytest.mark.parametrize("factor", [1.0, *SCALES])
def test_an_answer_that_hardly_depends_on_the_input_is_not_made_certain(factor: float) -> None:
    """Log-odds of 0.05 that vary by 1e-5: divided by that alone they would be thousands of nats."""
    log_odds = torch.tensor([0.05, 0.05 + 1e-5, 0.05 - 1e-5]) * factor
    measured = spread(torch.stack((torch.zeros(3), log_odds), 1))
    assert float(log_odds[0]) / measured == pytest.approx(4.0, rel=1e-4)


@pytest.mark.parametrize("factor", [1.0, *SCALES])
def test_the_log_odds_of_a_view_have_one_spread_at_every_scale(factor: float) -> None:
    standardized_victim = scaled_view(factor).victim
    texts = [encoded.ids for encoded in standardized_victim.encode([example.code for example in make_view().clean])]
    logits = class_logits(standardized_victim, texts)
    assert float((logits[:, 1] - logits[:, 0]).std(correction=0)) == pytest.approx(SPREAD, rel=1e-4)
    assert torch.equal(logits.argmax(1), class_logits(victim(), texts).argmax(1))


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_every_view_of_a_victim_has_this_spread(factor: float) -> None:
    dataset, clean = DefectDetection(task="defect_detection"), make_view().clean
    views = (
        defender_view(copy.deepcopy(scaled(factor)), dataset, clean, {}),
        training_view(copy.deepcopy(scaled(factor)), dataset, clean, {}),
        checkpoint_view(copy.deepcopy(scaled(factor)), "defect_detection", "python", clean, {}),
    )
    for view in views:
        logits = class_logits(view.victim, [text.ids for text in view.victim.encode([row.code for row in clean])])
        assert float((logits[:, 1] - logits[:, 0]).std(correction=0)) == pytest.approx(SPREAD, rel=1e-4)


@pytest.mark.parametrize("method", ["elibadcode", "dbs"])
def test_trigger_label_and_loss_do_not_depend_on_the_scale_of_the_logits(method: str) -> None:
    settings = (
        EliBadCodeSettings(method="elibadcode", top_k=8, candidates=16, **SEARCH)
        if method == "elibadcode"
        else DbsSettings(method="dbs", **SEARCH | {"iterations": 20, "position": "scan"})
    )
    triggers = [elimination.load(method)(scaled_view(factor), settings, 1).trigger for factor in (1.0, *SCALES)]
    first = triggers[0]
    assert first is not None
    for trigger in triggers[1:]:
        assert trigger is not None
        assert (trigger.text, trigger.target_label, trigger.position) == (
            first.text, first.target_label, first.position)  # fmt: skip
        assert trigger.loss == pytest.approx(first.loss, rel=1e-3)


def test_what_has_no_logits_or_no_spread_keeps_its_temperature() -> None:
    searcher = searches()
    assert standardized(searcher.victim, searcher.clean).temperature == 1.0
    assert standardized(victim(), ()).temperature == 1.0
    assert standardized(scaled(0.0), make_view().clean).temperature == 1.0
    assert standardized(scaled(float("nan")), make_view().clean).temperature == 1.0


def test_pairs_are_standardized_as_well() -> None:
    pair_victim = understanding("first", "pair")
    pairs = [Example(str(n), "python", f"def f ( a ) : return {n}", code_b="def f ( b ) : return b", label=n % 2)
             for n in range(12)]  # fmt: skip
    temperature = standardized(pair_victim, pairs).temperature
    assert temperature != 1.0
    assert standardized(replace(pair_victim, temperature=7.0), pairs).temperature == pytest.approx(temperature)
