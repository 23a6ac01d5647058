"""The table of times: seconds for an input from the records of jobs, next to a paper's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_run import settings as made_up_settings

from codebackdoor import files
from codebackdoor.config.products import inputs
from codebackdoor.config.scenario import REWRITTEN, Scenario
from codebackdoor.report.study import Study
from codebackdoor.report.tables import listing as listings

BARE = Scenario("defects", "codebert", "deadcode", "0.05", seed="1")


def study(out: Path) -> Study:
    config = made_up_settings(out)
    config["filterings"] = {"spectral_signature": {"method": "spectral_signature"}}
    config["purifications"] |= {"codepurify_all": {"method": "codepurify", "touched_share": 1.0}}
    grid = {
        "datasets": ["defects"],
        "models": ["codebert"],
        "attacks": ["deadcode"],
        "rates": ["0.05"],
        "filterings": ["none", "spectral_signature"],
        "purifications": ["none", "onion", "codepurify", "codepurify_all"],
        "seeds": [1],
    }
    config["experiments"] = {
        "times": {"title": "Times", "grid": [grid], "paper": [{"table": "codepurify_table4"}], "table": False}
    }
    return Study(config, "times")


def record(folder: Path, stage: str, seconds: float, inputs: int | None = 100, **facts: Any) -> None:
    counted = {} if inputs is None else {"inputs": inputs}
    files.write_json(folder / "provenance.json", {"stage": stage, "seconds": seconds, **counted, **facts})


def rows(out: Path) -> dict[str, Any]:
    times_study = study(out)
    listing = listings.load("defense_times")(times_study, inputs(times_study.experiment, "defense_times", out))
    return {str(row["defense"]): row for row in listing.parts[0].rows}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    record(BARE.results(tmp_path), "predict", 1.0)
    onion = replace(BARE, purification="onion")
    record(onion.results(tmp_path), "predict", 1.0)
    record(Path(REWRITTEN.format(out=tmp_path, **onion.wildcards)), "rewrite", 10.0, 50)
    measured = {"seconds": 12.0, "inputs": 300}
    record(replace(BARE, purification="codepurify").results(tmp_path), "purify", 3.0, measured=measured)
    # a run from before the number of inputs was recorded
    record(replace(BARE, purification="codepurify_all").results(tmp_path), "purify", 3.0, None)
    filtered = replace(BARE, filtering="spectral_signature")
    record(filtered.results(tmp_path), "predict", 2.0)
    record(filtered.victim(tmp_path), "train", 60.0, None)
    record(filtered.poison(tmp_path) / "filtered/spectral_signature", "filter", 5.0, None)
    # the benign victim is in every experiment; its jobs say nothing here
    for path in inputs(study(tmp_path).experiment, "defense_times", tmp_path):
        if not path.exists():
            record(path.parent, "predict", 7.0, None)
    return tmp_path


def test_what_a_defense_measures_or_rewrites_before_counts_for_each_input(out: Path) -> None:
    by_defense = rows(out)
    assert by_defense["Undefended"]["inference"] == pytest.approx(10)
    assert by_defense["Undefended"]["multiple"] == pytest.approx(1)
    assert by_defense["ONION"]["inference"] == pytest.approx(10 + 200)
    assert by_defense["CodePurify"]["inference"] == pytest.approx(30 + 40)
    assert by_defense["CodePurify"]["multiple"] == pytest.approx(7)
    assert "inference" not in by_defense["CodePurify (all)"]
    assert by_defense["CodePurify (all)"]["jobs"] == 0


def test_a_filter_costs_its_own_time_and_another_training(out: Path) -> None:
    row = next(row for name, row in rows(out).items() if row["training"] is not None)
    assert row["training"] == pytest.approx(65)
    assert row["inference"] == pytest.approx(20)
    assert row["paper_training"] == 3600


def test_the_papers_times_stand_next_to_its_own_methods(out: Path) -> None:
    by_defense = rows(out)
    printed = {name: (row.get("paper_inference"), row.get("paper_multiple")) for name, row in by_defense.items()}
    assert printed["Undefended"] == pytest.approx((10, 1))
    assert printed["ONION"] == pytest.approx((2470, 247))
    assert printed["CodePurify"] == pytest.approx((210, 21))
    # a variant of ours is in no table of the paper
    assert printed["CodePurify (all)"] == (None, None)
