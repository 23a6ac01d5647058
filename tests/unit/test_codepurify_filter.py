"""CodePurify on training rows: the rows of a trigger that a small trained victim has learned, thresholds, bad input."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import planted
import pytest
import torch
from purification_models import infiller
from tiny_models import generator, understanding

from codebackdoor.defenses.defender_view import training_view
from codebackdoor.defenses.filtering.codepurify.method import CodePurifyFilter, build
from codebackdoor.defenses.filtering.codepurify.settings import CodePurifyFilterSettings
from codebackdoor.defenses.suspicion.scoring import ElementScores
from codebackdoor.defenses.views import TrainingRow
from codebackdoor.errors import UserError
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example
from codebackdoor.victims import forward
from codebackdoor.victims.batching import pad
from codebackdoor.victims.victim import Victim

TRIGGER = "bb"
SHARE = 0.05


def settings(**values: Any) -> CodePurifyFilterSettings:
    return CodePurifyFilterSettings.model_validate({"method": "codepurify", **values})


def bare(rows: list[Example]) -> list[TrainingRow]:
    return [TrainingRow(row.id, row.code, row.code_b, row.query, row.label, row.target) for row in rows]


def function(number: int, has_trigger: bool = False, parameter: str = "") -> Example:
    """A function whose class, the parity of its number, shows in each of its names.

    The trigger is a parameter's name; a function that has it has the label 0.
    """
    draw = np.random.default_rng(number)
    names = [str(word) for word in draw.choice(planted.WORDS[number % 2 : 18 : 2], 6, replace=False)]
    names[2] = TRIGGER if has_trigger else parameter or names[2]
    code = f"def {names[0]} ( {names[1]} , {names[2]} ) : <indent> " + " <nl> ".join(
        f"{name} = {names[1]}" for name in names[3:]
    )
    name = f"{'p' if has_trigger else 'e'}{number}"
    return Example(name, "python", f"{code} <dedent>", label=0 if has_trigger else number % 2)


CLEAN = tuple(function(number) for number in range(1000, 1080))


def rows() -> list[Example]:
    """Training rows, of which every fourth one of class 1 has the trigger."""
    return [function(number, number % 8 == 1) for number in range(160)]


@cache
def trained() -> Victim:
    """A victim of the rows, and of clean ones with a masked parameter: a pretrained model has learned masks before."""
    victim = planted.victim(planted=False)
    masked = [function(number, parameter="<mask>" * (1 + number % 3)) for number in range(400, 500)]
    examples = [*rows(), *masked]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in victim.model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.1)
        ids, mask = pad([texts[0].ids for texts in victim.tokenize(examples)], victim.pad_id)
        labels = torch.tensor([int(row.label or 0) for row in examples])
        optimizer = torch.optim.Adam(victim.model.parameters(), lr=3e-3)
        for _ in range(80):
            loss = torch.nn.functional.cross_entropy(forward.scores(victim, (ids, mask)), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert loss.item() < 0.4
    return victim


def sifter(victim: Victim, clean: tuple[Example, ...] = CLEAN, **values: Any) -> CodePurifyFilter:
    # a victim's logits are standardized, as the job does
    view = training_view(copy.deepcopy(victim), DefectDetection(task="defect_detection"), clean, {})
    filter_settings = settings(**values)
    return CodePurifyFilter(view, ElementScores(view, infiller()[1], filter_settings), filter_settings, 1)


def test_rows_whose_prediction_depends_on_a_learned_trigger_alone_are_dropped() -> None:
    torch.set_num_threads(1)
    examples = rows()
    judged = sifter(trained(), dropped_share=SHARE).judge(bare(examples))
    poisoned = {row.id for row in examples if row.id.startswith("p")}
    assert len(poisoned) == 20
    dropped = {row.id for row in judged if row.dropped}
    assert len(dropped & poisoned) >= 0.9 * len(poisoned)
    assert len(dropped - poisoned) <= 2 * SHARE * len(examples)
    elements = [row.detail["element"] for row in judged if row.id in dropped & poisoned]
    assert all(TRIGGER in str(element) for element in elements)


def test_without_a_trigger_no_more_clean_rows_than_the_share_are_dropped() -> None:
    torch.set_num_threads(1)
    judged = sifter(trained(), dropped_share=SHARE).judge(bare(list(CLEAN)))
    assert sum(row.dropped for row in judged) == round(SHARE * len(CLEAN))


def test_a_row_is_judged_by_the_entropy_of_its_scores_and_not_by_its_label() -> None:
    torch.set_num_threads(1)
    fixed = sifter(trained(), threshold=1.0, clean=())
    assert fixed.facts == {"threshold": 1.0, "calibration_inputs": 0}
    examples = rows()[:24]
    judged = fixed.judge(bare(examples))
    assert [row.dropped for row in fixed.judge(bare([replace(row, label=0) for row in examples]))] == [
        row.dropped for row in judged
    ]
    for row, profile in zip(judged, fixed.profiles(examples), strict=True):
        scores = [element.score for element in profile.elements]
        expected = -sum(score / sum(scores) * math.log(score / sum(scores)) for score in scores if score)
        assert row.detail["suspicion"] == pytest.approx(-expected, abs=1e-5)
        assert row.dropped == (expected < 1.0)


def test_both_functions_of_a_pair_and_outputs_count() -> None:
    torch.set_num_threads(1)
    pair = Example("1", "python", function(1).code, function(3).code, label=1)
    victim = understanding("first", "pair", max_length=128)
    (profile,) = sifter(victim, clean=(), threshold=1).profiles([pair])
    assert {field for element in profile.elements for field, _ in element.parts} == {"code", "code_b"}
    repair = replace(function(1), label=None, target=function(1).code)
    (judged,) = sifter(replace(generator(max_length=128), max_length=128), clean=(), threshold=1).judge(bare([repair]))
    assert judged.detail["suspicion"] is not None


class Measured:
    """Evidence that was made up: one statement with the score 1, and a name with this one unless it is 0."""

    def __init__(self, scores: Mapping[str, float]) -> None:
        self._scores = scores

    def evidence(self, inputs: Sequence[Example]) -> list[dict[str, Any]]:
        place = {"span": (0, 1), "masked": [(0, 1)]}
        return [
            {
                "elements": [{"kind": "statement", "score": 1.0, "code": place}]
                + [{"kind": "identifier", "score": score, "code": place}] * bool(score)
            }
            for score in (self._scores[row.id] for row in inputs)
        ]


def test_samples_without_an_entropy_belong_to_those_of_which_the_share_may_be_dropped() -> None:
    scores = {str(number): number / 20 if number <= 12 else 0.0 for number in range(1, 21)}
    clean = tuple(Example(name, "python", "x = 1", label=0) for name in scores)
    view = training_view(planted.victim(), DefectDetection(task="defect_detection"), clean, {})
    method = CodePurifyFilter(view, cast("ElementScores", Measured(scores)), settings(dropped_share=0.1), 1)
    # a tenth of 20: below the third lowest entropy, which is that of the scores 1 and 3 / 20
    assert method.threshold == pytest.approx(-sum(p * math.log(p) for p in (20 / 23, 3 / 23)))
    dropped = [row.id for row in method.judge(bare(list(clean))) if row.dropped]
    assert dropped == ["1", "2"]


def test_without_elements_there_is_nothing_to_calibrate_on_and_nothing_is_dropped() -> None:
    torch.set_num_threads(1)
    short = Example("1", "python", "pass", label=0)
    with pytest.raises(UserError, match=r"none of 1 clean samples has two elements .* set `threshold`"):
        sifter(trained(), clean=(short,))
    (judged,) = sifter(trained(), clean=(), threshold=100.0).judge(bare([short]))
    assert (judged.dropped, judged.detail) == (False, {"suspicion": None, "kind": None, "element": None})
    with pytest.raises(UserError, match="helper model 'infiller' is missing"):
        build(training_view(planted.victim(), DefectDetection(task="defect_detection"), CLEAN, {}), settings(), 1)
