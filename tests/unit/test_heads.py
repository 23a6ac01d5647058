"""What a head says about itself: consistent in itself, and with the metrics that its scorer writes."""

from __future__ import annotations

from typing import get_args

import pytest

from codebackdoor import types
from codebackdoor.config.base import Head
from codebackdoor.evaluation.scoring.base import Scorer, scorer_of
from codebackdoor.heads import HEADS

every_head = pytest.mark.parametrize("name", get_args(Head))


@every_head
def test_every_head_has_an_object_and_a_scorer(name: Head) -> None:
    head = HEADS[name]
    assert head.name == name
    assert isinstance(scorer_of(name), Scorer)
    assert set(head.fields) <= set(get_args(types.Field))
    assert head.clean_metric in head.clean_metrics


@every_head
def test_a_victim_does_one_thing(name: Head) -> None:
    head = HEADS[name]
    assert [head.predicts_label, head.generates, head.ranks].count(True) == 1


@every_head
def test_the_summary_has_the_success_and_its_floor(name: Head) -> None:
    triggered = HEADS[name].triggered
    assert {triggered.success, triggered.floor} <= set(triggered.summary)
    assert triggered.high_is_backdoored == (triggered.success == "asr")


@every_head
def test_a_defense_is_better_against_the_direction_of_the_backdoor(name: Head) -> None:
    triggered = HEADS[name].triggered
    assert triggered.sign == (-1 if triggered.success == "asr" else 1)
