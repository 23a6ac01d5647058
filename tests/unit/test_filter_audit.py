"""What only the evaluation knows of a filter: against scikit-learn, by hand, and the table made of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from codebackdoor import files
from codebackdoor.config.products import inputs
from codebackdoor.config.scenario import AUDITED, Scenario
from codebackdoor.errors import UserError
from codebackdoor.evaluation.filters import audit, auroc_by_label, filter_metrics
from codebackdoor.report.study import Study
from codebackdoor.report.tables import listing as listings
from codebackdoor.report.tables.listing import Marked
from codebackdoor.types import Example, Poisoned

DRAW = np.random.default_rng(0)
POISONED = DRAW.random(300) < 0.2
DROPPED = np.where(POISONED, DRAW.random(300) < 0.6, DRAW.random(300) < 0.1)
SCORES = np.round(DRAW.normal(size=300) + POISONED, 1)


def test_shares_are_scikit_learns_with_exact_intervals() -> None:
    metrics = filter_metrics(POISONED, DROPPED)
    assert metrics["precision"].value == pytest.approx(precision_score(POISONED, DROPPED))
    assert metrics["recall"].value == pytest.approx(recall_score(POISONED, DROPPED))
    assert metrics["npv"].value == pytest.approx(precision_score(~POISONED, ~DROPPED))
    assert metrics["fpr"].value == pytest.approx(1 - recall_score(~POISONED, ~DROPPED))
    assert metrics["dropped"].value == pytest.approx(DROPPED.mean())
    assert metrics["recall"].n == POISONED.sum()
    interval = binomtest(int((POISONED & DROPPED).sum()), int(POISONED.sum())).proportion_ci(0.95, "exact")
    assert (metrics["recall"].low, metrics["recall"].high) == pytest.approx((interval.low, interval.high))


def test_auroc_is_that_of_rows_with_the_same_label() -> None:
    estimate = auroc_by_label(SCORES, POISONED, [None] * 300)
    assert estimate.value == pytest.approx(roc_auc_score(POISONED, SCORES))
    # 300 more rows with another label, without poison and with higher scores, change nothing
    everything = auroc_by_label(
        np.concatenate([SCORES, SCORES + 9]), np.concatenate([POISONED, np.zeros(300, bool)]), [0] * 300 + [1] * 300
    )
    assert (everything.value, everything.low, everything.n) == pytest.approx(
        (estimate.value, estimate.low, POISONED.sum())
    )
    # poison in two labels: the mean over all pairs
    labels = (np.arange(300) % 2).tolist()
    sides = [np.array(labels) == label for label in (0, 1)]
    pairs = [POISONED[side].sum() * (~POISONED[side]).sum() for side in sides]
    areas = [roc_auc_score(POISONED[side], SCORES[side]) for side in sides]
    assert auroc_by_label(SCORES, POISONED, labels).value == pytest.approx(np.average(areas, weights=pairs))


def test_the_interval_of_the_auroc_is_that_of_a_bootstrap() -> None:
    estimate = auroc_by_label(SCORES, POISONED, [0] * 300)
    draws = []
    for _ in range(200):
        index = DRAW.integers(0, 300, 300)
        draws.append(roc_auc_score(POISONED[index], SCORES[index]))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.02)


def test_the_interval_of_the_auroc_of_few_rows_by_hand() -> None:
    estimate = auroc_by_label(np.array([3.0, 1.0, 2.0, 0.0]), np.array([True, True, False, False]), [0] * 4)
    # the placements are 1 and 1/2 on both sides: their variances are 1/8, each divided by two rows
    assert estimate.value == 0.75
    assert (estimate.low, estimate.high) == pytest.approx((0.75 - 1.959964 * math.sqrt(1 / 8), 1.0))
    # two labels with these rows have half the variance
    twice = auroc_by_label(np.tile([3.0, 1.0, 2.0, 0.0], 2), np.tile([True, True, False, False], 2), [0] * 4 + [1] * 4)
    assert (twice.value, twice.low) == pytest.approx((0.75, 0.75 - 1.959964 / 4))


def test_without_poisoned_or_dropped_rows_some_are_undefined() -> None:
    nothing = np.zeros(5, dtype=bool)
    metrics = filter_metrics(nothing, nothing)
    assert [name for name, estimate in metrics.items() if estimate.value is None] == ["precision", "recall"]
    assert (metrics["dropped"].value, metrics["npv"].value, metrics["npv"].high) == (0.0, 1.0, 1.0)
    assert auroc_by_label(np.zeros(5), nothing, [0] * 5).value is None
    # equal scores tell nothing apart
    assert auroc_by_label(np.zeros(5), np.arange(5) < 2, [0] * 5).value == 0.5


def row(number: int, status: Any = None) -> Example | Poisoned:
    example = Example(f"r{number}", "python", f"x = {number}", label=0)
    return example if status is None else Poisoned(example, f"s{number}", "a", status, 1, None)


def test_only_rows_with_the_trigger_in_them_are_poisoned(tmp_path: Path) -> None:
    rows = [row(0), row(1, "injected"), row(2, "failed"), row(3, "injected")]
    files.write_rows(
        tmp_path / "train.jsonl",
        (files.poisoned_row(item) if isinstance(item, Poisoned) else files.example_row(item) for item in rows),
    )
    # a row without a score is less suspicious than any other, also where scores are negative
    verdicts = [
        {"id": "r0", "dropped": False, "suspicion": None},
        {"id": "r1", "dropped": True, "suspicion": -2.0},
        {"id": "r2", "dropped": True, "suspicion": -1.0},
        {"id": "r3", "dropped": False, "suspicion": -3.0},
    ]
    files.write_rows(tmp_path / "judged.jsonl", verdicts)
    audit(tmp_path / "train.jsonl", tmp_path / "judged.jsonl", tmp_path)
    report = json.loads((tmp_path / AUDITED).read_text())
    assert report["rows"] == {"all": 4, "poisoned": 2, "dropped": 2}
    assert {name: metric["value"] for name, metric in report["metrics"].items()} == dict.fromkeys(
        ("auroc", "dropped", "fpr", "npv", "precision", "recall"), 0.5
    )
    files.write_rows(tmp_path / "judged.jsonl", verdicts[::-1])
    with pytest.raises(UserError, match="not the verdicts on the rows of"):
        audit(tmp_path / "train.jsonl", tmp_path / "judged.jsonl", tmp_path)


def study(out: Path, seeds: list[int]) -> Study:
    """Two victims, one filter; of seed s the recall is s tenths."""
    grid = {"datasets": ["defects"], "models": ["codebert"], "attacks": ["none", "a"], "filterings": ["none", "f"]}
    settings = {
        "out": str(out),
        "datasets": {"defects": {"task": "defect_detection", "source": "pypi"}},
        "models": {"codebert": {"architecture": "codebert", "base": "shipped"}},
        "experiments": {"e": {"title": "E", "grid": [{**grid, "seeds": seeds}], "tables": ["filters"]}},
    }
    for seed in seeds:
        for attack, rate in (("none", "0"), ("a", "0.05")):
            for filtering, loss in (("none", 0.0), ("f", 0.02)):
                scenario = Scenario("defects", "codebert", attack, rate, str(seed), filtering)
                estimate = {"low": 0.1, "high": 0.9, "n": 9}
                testsets = {"clean": {"metrics": {"accuracy": {"value": 0.7 - loss, **estimate}}}}
                if attack != "none":
                    testsets[attack] = {"metrics": {"flip_rate": {"value": 1 - 10 * loss, **estimate}}}
                files.write_json(scenario.results(out) / "metrics.json", {"testsets": testsets})
                if filtering != "none":
                    value = None if attack == "none" else seed / 10
                    metrics = {name: {"value": value, **estimate} for name in ("precision", "recall", "npv", "auroc")}
                    metrics |= {name: {"value": 0.075, **estimate} for name in ("dropped", "fpr")}
                    files.write_json(scenario.results(out) / AUDITED, {"metrics": metrics})
    return Study(settings, "e")


def test_the_table_shows_the_filter_and_the_victim_next_to_the_undefended_one(tmp_path: Path) -> None:
    filter_study = study(tmp_path, [4])
    rows, victims = listings.load("filters")(filter_study, inputs(filter_study.experiment, "filters", tmp_path)).parts
    benign, attacked = rows.rows
    assert (benign["recall"], benign["dropped"]) == (None, Marked(0.075, " [10.0, 90.0]"))
    assert (attacked["defense"], attacked["recall"]) == ("f", Marked(0.4, " [10.0, 90.0]"))
    benign, attacked = victims.rows
    assert "effect" not in benign
    assert (attacked["clean"], attacked["effect"]) == ("Accuracy", "Flip rate")
    numbers = ("clean_undefended", "clean_filtered", "clean_change", "effect_undefended", "effect_filtered")
    assert [attacked[name] for name in numbers] == pytest.approx([0.7, 0.68, -0.02, 1.0, 0.8])


def test_over_seeds_the_table_has_means_and_ranges(tmp_path: Path) -> None:
    filter_study = study(tmp_path, [4, 5, 9])
    listing = listings.load("filters")(filter_study, inputs(filter_study.experiment, "filters", tmp_path))
    _, attacked = listing.parts[0].rows
    assert attacked["recall"] == Marked(pytest.approx(0.6), " [40.0, 90.0]")
    assert attacked["seeds"] == 3
