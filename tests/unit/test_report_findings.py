"""Findings are computed: another number, another sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_up_grid
import pytest
from made_up_run import make, settings

from codebackdoor import files
from codebackdoor.config.scenario import Scenario
from codebackdoor.report.findings import findings
from codebackdoor.report.study import Study

SCANNED = Scenario("defects", "codebert", "by_name", "0.05", elimination="elibadcode")


def sentences_of(run: dict[str, Any]) -> list[str]:
    return findings([Study(run, name) for name in run["experiments"]])


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    config = settings(tmp_path)
    make(config)
    return config


def set_metric(run: dict[str, Any], scenario: Scenario, testset: str, metric: str, value: float) -> None:
    path = scenario.results(run["out"]) / "metrics.json"
    measured = files.read_json(path)
    measured["testsets"][testset]["metrics"][metric] |= {"value": value}
    files.write_json(path, measured)


def test_every_kind_of_defense_and_every_verdict_is_summed_up(run: dict[str, Any]) -> None:
    undefended, objectives, eliminations, purifications, verdicts = sentences_of(run)
    assert undefended == (
        "Undefended: a flip rate of 100.0% on 4 victims. The same triggers have 4.0% on benign victims, which are not"
        " backdoored."
    )
    assert objectives.startswith("Training with another loss leaves a flip rate of: 2.0% with DeCE (1 victim, BLEU-4 ")
    assert eliminations.startswith(
        "Editing the victim leaves a flip rate of: 8.0% with EliBadCode (3 victims, accuracy "
    )
    assert "; 93.0% with Clean fine-tuning (2 victims, accuracy " in eliminations
    # two tasks, two metrics
    assert "30.0% with CodePurify (3 victims, clean metric " in purifications
    assert verdicts == "Label scans: 4 of 4 verdicts are right."


def test_the_sentences_follow_the_numbers(run: dict[str, Any]) -> None:
    set_metric(run, SCANNED, "by_name", "flip_rate", 0.61)
    for scenario, accuracy in ((SCANNED, 0.7), (SCANNED.undefended(), 0.6)):
        set_metric(run, scenario, "clean", "accuracy", accuracy)
    set_metric(run, SCANNED.undefended(), "by_name", "flip_rate", 0.9)
    path = SCANNED.benign().victim(run["out"]) / "trigger.json"
    files.write_json(path, files.read_json(path) | {"flagged": True})
    undefended, _, eliminations, _, verdicts = sentences_of(run)
    assert "of 90.0 to 100.0% on 4 victims" in undefended
    assert "8.0 to 61.0% with EliBadCode (3 victims" in eliminations
    assert " to +10.0 points)" in eliminations
    assert verdicts == (
        "Label scans: 3 of 4 verdicts are right. Wrong: EliBadCode says label 0 for defects · CodeBERT · no attack "
        "(truth: clean). After 1 right verdict, a flip rate above 15% remains."
    )


def test_the_range_covers_every_seed(tmp_path: Path) -> None:
    config = settings(tmp_path, (1, 2))
    make(config)
    set_metric(config, SCANNED, "by_name", "flip_rate", 0.5)
    assert "8.0 to 50.0% with EliBadCode (6 victims" in sentences_of(config)[2]


def test_of_many_variants_the_best_are_named(tmp_path: Path) -> None:
    config = made_up_grid.settings(tmp_path)
    made_up_grid.make(config)
    sentences = sentences_of(config)
    assert 3 <= len(sentences) <= 6
    eliminations = next(sentence for sentence in sentences if sentence.startswith("Editing the victim"))
    assert "with 8 more (fewer victims, or more left on average)." in eliminations
    # most victims first, then the lowest mean; the configuration lists DBS first
    assert eliminations.index("EliBadCode") < eliminations.index("DBS") < eliminations.index("rate 0")


def test_a_study_without_attacks_has_none(run: dict[str, Any]) -> None:
    run["experiments"] = {
        "a": {"title": "t", "grid": [{"datasets": ["defects"], "models": ["codebert"], "attacks": ["none"]}]}
    }
    assert sentences_of(run) == []
