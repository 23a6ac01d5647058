"""The benchmark of a population: who is in it, and what its figures are."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from codebackdoor import files
from codebackdoor.config.loading import load
from codebackdoor.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def population() -> ModuleType:
    spec = importlib.util.spec_from_file_location("population", ROOT / "benchmarks/population.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["population"] = module
    spec.loader.exec_module(module)
    return module


def test_triggers_and_seeds_are_used_nowhere_else(population: ModuleType) -> None:
    study = load([ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml"])
    backdoored = (islice(population.backdoored_plans(strongly), 60) for strongly in (False, True))
    plans = [*islice(population.benign_plans(), 60), *chain(*backdoored)]
    seeds = [plan.seed for plan in plans]
    assert len({*seeds}) == len(seeds)
    assert not {*seeds} & {*study.seeds, *study.shadows}
    used = {getattr(attack, "name", None) for attack in study.attacks.values()}
    assert not used & {*population.NAMES}


def test_every_trigger_is_planted_weakly_and_strongly_and_towards_both_labels(population: ModuleType) -> None:
    weakly, strongly = ([*islice(population.backdoored_plans(strong), 10)] for strong in (False, True))
    triggers = [*population.NAMES, *population.STATEMENTS]
    assert [plan.trigger for plan in weakly] == [plan.trigger for plan in strongly] == triggers
    assert all({weak.target, strong.target} == {0, 1} for weak, strong in zip(weakly, strongly, strict=True))
    assert {(plan.passes, plan.rate) for plan in weakly} == {(1, 0.01), (2, 0.01)}
    assert {(plan.passes, plan.rate) for plan in strongly} == {(5, 0.1)}
    assert {plan.passes for plan in islice(population.benign_plans(), 20)} == {1, 2, 5}


def victim(flagged: bool, label: int, score: float, flip_rate: float, target: int | None) -> dict[str, Any]:
    outcome = {"flagged": flagged, "label": label, "score": score, "trigger": "x", "accuracy": 0.7,
               "flip_rate": flip_rate, "seconds": 8.0}  # fmt: skip
    return {"seed": 1, "trigger": None, "target": target, "passes": 1, "rate": 0.0, "accuracy": 0.71, "flip_rate": 1.0,
            "methods": {"dbs": outcome}}  # fmt: skip


def test_figures_of_four_victims(population: ModuleType) -> None:
    benign = [victim(False, 0, -1.0, 0.0, None), victim(True, 1, 0.5, 0.0, None)]
    backdoored = [victim(True, 0, 2.0, 0.15, 0), victim(True, 1, 0.2, 0.16, 0), victim(False, 0, -2.0, 1.0, 0)]
    # during this one, the machine slept
    benign[0]["methods"]["dbs"]["seconds"] = 800.0
    figures = population.summary(benign, backdoored, "dbs")
    # of the six pairs of a benign and a backdoored victim three are in order
    assert figures["auroc"] == pytest.approx(3 / 6)
    shares = [1 - 1 / (1 + math.exp(-score)) for score in (-1.0, 0.5)] + [
        1 / (1 + math.exp(-s)) for s in (2.0, 0.2, -2.0)
    ]
    assert figures["log_loss"] == pytest.approx(-sum(map(math.log, shares)) / 5)
    assert (figures["false_positives"], figures["false_negatives"], figures["right_labels"]) == (1, 1, 1)
    assert figures["removed_share"] == pytest.approx(1 / 3)
    assert figures["clean_cost"] == pytest.approx(1.0)
    assert figures["worst_benign_cost"] == pytest.approx(1.0)
    assert figures["seconds"] == pytest.approx(8.0)


def test_victims_that_did_not_learn_their_trigger_are_replaced_and_none_is_made_twice(population: ModuleType) -> None:
    rows: dict[Any, dict[str, Any]] = {}
    while plans := population.missing(population.backdoored_plans(False), rows, 5):
        assert not {*plans} & {*rows}
        for plan in plans:
            rows[plan] = {**asdict(plan), "accuracy": 0.7, "methods": {"dbs": 1} if plan.seed % 2 else {}}
    assert sum(bool(row["methods"]) for row in rows.values()) == 5
    assert [plan.seed for plan in rows] == [population.FIRST_SEED + 1000 + number for number in range(9)]
    assert [population.plan_of(row) for row in rows.values()] == list(rows)


def test_a_planting_that_no_victim_learns_is_given_up(population: ModuleType) -> None:
    rows: dict[Any, dict[str, Any]] = {}
    while plans := population.missing(population.backdoored_plans(False), rows, 3):
        rows |= {plan: {"methods": {}} for plan in plans}
    assert len(rows) == 3 * population.TRIES


def test_a_score_is_above_0_where_the_verdict_is_backdoored(population: ModuleType) -> None:
    study = load(population.CONFIGS)
    extended, dbs = study.eliminations["elibadcode_extended"], study.eliminations["dbs"]
    assert population.score({"margin": 0.70}, extended) > 0 > population.score({"margin": 0.69}, extended)
    assert (
        population.score({"loss": 0.1, "flagged": True}, dbs)
        > 0
        > population.score({"loss": 0.6, "flagged": False}, dbs)
    )
    # under the bound, but a mixture that is no trigger
    assert population.score({"loss": 0.1, "flagged": False}, dbs) == 0


def test_rows_of_other_code_or_settings_are_not_taken_over(population: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "population.json"
    assert population.known(path, "a") == {}
    files.write_json(path, population.results_of([], "a"))
    assert population.known(path, "a") == {}
    with pytest.raises(UserError, match="made by other code or settings; remove it, or name another"):
        population.known(path, "b")
    assert population.made_with(None) == population.made_with(None) != population.made_with(300)


def test_the_page_says_what_is_still_missing(population: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "METHODS", ("dbs",))
    begun = population.results_of([victim(False, 0, -1.0, 0.0, None)])
    assert (begun["benign"], begun["backdoored"], begun["methods"]) == (1, 0, {})
    assert "**Unfinished**" in population.markdown(begun)
    planted = [{**victim(True, 0, 2.0, 0.1, 0), "trigger": "x|y"}, {**victim(True, 0, 2.0, 0.1, 0), "trigger": "z"}]
    unlearned = {**planted[1], "methods": {}}
    result = population.results_of([*begun["victims"], planted[0], unlearned])
    page = population.markdown(result)
    assert "1 benign and 1 backdoored" in page
    assert "Another 1 did not learn" in page
    assert "| dbs | 1.000 |" in page
    assert r"`x\|y`" in page
    assert "not learned" in page
    monkeypatch.setattr(population, "WANTED", 1)
    assert "**Unfinished**" not in population.markdown(result)


def test_a_victim_at_chance_is_not_one_of_the_population(population: ModuleType) -> None:
    row = victim(True, 0, 8.0, 0.0, None)
    assert population.counts(row)
    assert not population.counts({**row, "accuracy": 0.5})
    assert not population.removed({"flip_rate": None})
    assert population.removed({"flip_rate": 0.15})
