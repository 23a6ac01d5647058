"""What a head says about itself: consistent in itself, and with the metrics that its scorer writes."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from codebackdoor import types
from codebackdoor.config.base import Head
from codebackdoor.dag.fingerprint import ROOT
from codebackdoor.evaluation.scoring.base import Scorer, scorer_of
from codebackdoor.heads import HEADS

every_head = pytest.mark.parametrize("name", get_args(Head))

SOURCES = sorted(ROOT.rglob("*.py"))


def comparisons(path: Path) -> list[str]:
    """The comparisons in a file with the name of a head, alone or in a list of names."""
    compared = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Compare)]
    names = set(get_args(Head))
    return [
        ast.unparse(node)
        for node in compared
        if any(isinstance(part, ast.Constant) and part.value in names for part in ast.walk(node))
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_only_the_configuration_compares_heads_by_name(path: Path) -> None:
    """All other code asks ``HEADS`` what a head does; its questions are not counted here."""
    if path.relative_to(ROOT).parts[0] not in ("config", "heads.py"):
        assert not comparisons(path)


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
