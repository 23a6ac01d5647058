"""Further tables of a made-up run over three tasks, against values counted by hand."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_grid import ATTACKS, left, make, settings
from pydantic import ValidationError

from codebackdoor import files
from codebackdoor.config.experiments import Difference, Experiment
from codebackdoor.config.products import inputs
from codebackdoor.config.scenario import Scenario
from codebackdoor.report import captions, labels, stage
from codebackdoor.report.collect import collect
from codebackdoor.report.products import LISTINGS
from codebackdoor.report.study import Study
from codebackdoor.report.tables import listing as listings
from codebackdoor.report.tables.listing import Listing, Marked, Value
from codebackdoor.report.tables.results import build


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    config = settings(tmp_path_factory.mktemp("run"))
    make(config)
    return config


def listing_of(run: dict[str, Any], kind: str, name: str = "all") -> Listing:
    study = Study(run, name)
    return listings.load(kind)(study, inputs(study.experiment, kind, run["out"]))


def rows(listing: Listing, part: str) -> tuple[Mapping[str, Value], ...]:
    return next(candidate.rows for candidate in listing.parts if candidate.name == part)


def row(listing: Listing, part: str, **expected: Value) -> Mapping[str, Value]:
    (match,) = (candidate for candidate in rows(listing, part) if expected.items() <= candidate.items())
    return match


def test_every_defense_of_every_victim_is_in_the_overview(run: dict[str, Any]) -> None:
    listing = listing_of(run, "overview")
    entry = row(listing, "flip_rate", victim="clones · CodeT5 · BadCode at 2%")
    # left(): 0.1 for the model, 0.03 for the task, 0.01 for the attack
    assert entry["EliBadCode"] == pytest.approx(0.14)
    assert entry["Undefended"] == pytest.approx(0.94)
    assert row(listing, "clean_cost", victim="defects · CodeBERT · by name at 2%")["EliBadCode"] == pytest.approx(0.02)
    search = row(listing, "anr", victim="search · CodeBERT · by name at 2%")
    assert (search["Benign"], search["DBS"]) == (pytest.approx(0.246), None)
    assert any("it needs all target labels" in note for note in listing.notes)


def test_defenses_are_ranked_in_each_task_over_those_that_apply_to_it(run: dict[str, Any]) -> None:
    listing = listing_of(run, "overview")
    flips = rows(listing, "flip_rate")
    # search has no flip rate, and its dash alone is no row
    assert not [entry for entry in flips if str(entry["victim"]).startswith("search")]
    assert [entry["victim"] for entry in flips][-6:] == [
        *("Mean, defect detection, 6 victims", "Rank, defect detection"),
        *("Mean, clone detection, 6 victims", "Rank, clone detection"),
        *("Mean, all tasks with labels, 12 victims", "Rank, all tasks with labels"),
    ]
    assert flips[-1] == {"victim": "Rank, all tasks with labels", "DBS": "2.0", "EliBadCode": "1.0", "ONION": "3.0"}
    # left(): 0.05 for the models, 0.01 for the attacks, 0.03 for the task of the second half
    means = [row(listing, "flip_rate", victim=f"Mean, {head} victims") for head in (
        "defect detection, 6", "clone detection, 6", "all tasks with labels, 12"
    )]  # fmt: skip
    assert [entry["EliBadCode"] for entry in means] == [pytest.approx(entry) for entry in (0.06, 0.09, 0.075)]
    # DBS is a dash in search, where the others are ranked without it
    ranks = {"ONION": "2.0", "EliBadCode": "1.0"}
    assert row(listing, "anr", victim="Rank, code search") == {"victim": "Rank, code search", **ranks}
    cost = row(listing, "clean_cost", victim="Mean, code search, 6 victims")
    assert (cost["EliBadCode"], cost["ONION"]) == (pytest.approx(0.02), pytest.approx(0))
    assert "DBS" not in cost


def test_a_defense_without_a_value_on_some_victim_has_no_mean(run: dict[str, Any], tmp_path: Path) -> None:
    config = run | {"out": str(tmp_path)}
    make(config)
    scenario = Scenario("defects", "codebert", "by_name", "0.02", elimination="dbs")
    path = scenario.results(tmp_path) / "metrics.json"
    measured = files.read_json(path)
    measured["testsets"]["by_name"]["metrics"]["flip_rate"] |= {"value": None, "low": None, "high": None, "n": 0}
    files.write_json(path, measured)
    listing = listing_of(config, "overview")
    means = row(listing, "flip_rate", victim="Mean, defect detection, 6 victims")
    assert "DBS" not in means
    assert means["EliBadCode"] == pytest.approx(0.06)
    assert row(listing, "flip_rate", victim="Rank, defect detection") == {
        "victim": "Rank, defect detection",
        "EliBadCode": "1.0",
        "ONION": "2.0",
    }
    assert "DBS" not in row(listing, "flip_rate", victim="Mean, all tasks with labels, 12 victims")


def test_a_victim_without_a_flip_rate_of_its_own_counts_for_no_defense(run: dict[str, Any], tmp_path: Path) -> None:
    config = run | {"out": str(tmp_path)}
    make(config)
    for elimination in ("none", "dbs", "elibadcode"):
        path = Scenario("defects", "codebert", "by_name", "0.02", elimination=elimination).results(tmp_path)
        measured = files.read_json(path / "metrics.json")
        measured["testsets"]["by_name"]["metrics"]["flip_rate"] |= {"value": None, "low": None, "high": None, "n": 0}
        files.write_json(path / "metrics.json", measured)
    means = row(listing_of(config, "overview"), "flip_rate", victim="Mean, defect detection, 5 victims")
    # the victim of the lowest value is out
    assert means["EliBadCode"] == pytest.approx(0.072)
    assert {"DBS", "ONION", "Undefended"} < means.keys()


def test_a_defense_that_was_run_on_some_victims_is_compared_on_those(run: dict[str, Any], tmp_path: Path) -> None:
    (grid,) = run["experiments"]["all"]["grid"]
    grids = [{**grid, "models": ["codebert"]}, {**grid, "models": ["codet5"], "eliminations": ["none", "elibadcode"]}]
    experiment = {**run["experiments"]["all"], "grid": grids}
    config = run | {"out": str(tmp_path), "experiments": {"all": experiment}}
    make(config)
    means = row(listing_of(config, "overview"), "flip_rate", victim="Mean, defect detection, 3 victims")
    assert {"DBS", "EliBadCode", "ONION"} < means.keys()


def test_an_asr_above_its_floor_and_one_below_do_not_cancel_out(run: dict[str, Any], tmp_path: Path) -> None:
    config = run | {"out": str(tmp_path)}
    make(config)
    for number, attack in enumerate(ATTACKS):
        for model in ("codebert", "codet5"):
            scenario = Scenario("defects", model, attack, "0.02", elimination="elibadcode")
            path = scenario.results(tmp_path) / "metrics.json"
            measured = files.read_json(path)
            size = 0.1 if number else -0.4
            estimate = {"value": size, "low": size, "high": size, "n": 10}
            measured["testsets"][attack]["metrics"]["asr_minus_floor"] = estimate
            files.write_json(path, measured)
    means = row(listing_of(config, "overview"), "asr_minus_floor", victim="Mean, defect detection, 6 victims")
    assert means["EliBadCode"] == pytest.approx((0.4 + 0.1 + 0.1) / 3)


def test_a_value_of_other_seeds_than_the_overviews_says_so(run: dict[str, Any], tmp_path: Path) -> None:
    config = run | {"out": str(tmp_path)}
    grids = config["experiments"]["all"]["grid"]
    more = {**grids[0], "datasets": ["defects"], "models": ["codebert"], "seeds": [2]}
    config |= {"experiments": {"all": {**config["experiments"]["all"], "grid": [*grids, more]}}}
    make(config)
    listing = listing_of(config, "overview")
    once, twice = (f"defects · {model} · by name at 2%" for model in ("CodeT5", "CodeBERT"))
    assert row(listing, "flip_rate", victim=once)["DBS"] == Marked(pytest.approx(0.5), " ×1")
    assert row(listing, "flip_rate", victim=twice)["DBS"] == pytest.approx(0.4)
    assert "| 50.0 ×1 |" in listings.as_markdown(listing)
    assert "×N after a value: of N seeds, not 2." in listing.notes
    assert "×" not in listings.as_csv(listing)


def test_a_dash_says_why_in_the_table_too(run: dict[str, Any]) -> None:
    study = Study(run, "all")
    table = build(study, collect(study, inputs(study.experiment, "table", run["out"])))
    assert any(note.startswith("– (search, DBS): it needs all target labels") for note in table.notes)
    group = next(candidate for candidate in table.groups if candidate.title == "search · CodeT5 · BadCode at 2%")
    assert {line.metric for line in group.lines} == {"mrr", "anr", "anr_without", "anr_drop"}
    cell = next(line for line in group.lines if line.metric == "anr").entries["Undefended"]
    assert cell is not None
    assert cell != "dash"
    assert cell.paper is not None
    assert cell.paper.value == pytest.approx(0.1025)


def test_a_pair_of_defenses_that_stands_the_other_way_round_is_listed(run: dict[str, Any]) -> None:
    listing = listing_of(run, "ordering")
    # in Table 1 DBS leaves CodeBERT more of CodePoisoner and AFRAIDOOR than ONION does; made up, it always leaves less
    entry = row(listing, "differences", dataset="defects", metric="ASR")
    assert (entry["better"], entry["worse"]) == ("DBS", "ONION")
    assert (entry["same"], entry["close"], entry["opposite"]) == (4, 0, 2)
    # left(): 0.4 and 0.5, 0.05 for the models, 0.01 for the attacks, above a floor of 0.2
    assert (entry["here_better"], entry["here_worse"]) == (pytest.approx(0.568), pytest.approx(0.648))
    assert entry["reason"] == "open question"
    assert row(listing, "differences", dataset="clones", metric="ASR")["reason"] == "it reads pairs"
    # EliBadCode is the best as in the paper; the made-up accuracies differ by less than their intervals
    assert len(rows(listing, "differences")) == 2
    order = row(listing, "orders", dataset="defects", metric="ASR")
    assert order["victims"] == 6
    assert order["here"] == "EliBadCode 24.8, DBS 56.8, ONION 64.8, Undefended 88.8"
    assert str(order["paper"]).startswith("EliBadCode")
    # of ANR more is better
    assert str(row(listing, "orders", metric="ANR")["here"]).startswith("EliBadCode 22.6")


def test_a_reason_may_be_of_some_pairs_alone() -> None:
    values = {"elimination": "dbs", "against": ["onion", "none"], "reason": "so"}
    reason = Difference.model_validate(values)
    undefended = Scenario("defects", "codebert", "badcode", "0.02")
    dbs, fine_tuning = (replace(undefended, elimination=name) for name in ("dbs", "fine_tuning"))
    onion = replace(undefended, purification="onion")
    assert reason.explains(dbs, onion)
    assert reason.explains(onion, dbs)
    assert reason.explains(undefended, dbs)
    assert not reason.explains(dbs, fine_tuning)
    assert not reason.explains(onion, undefended)
    assert Difference.model_validate(values | {"against": []}).explains(fine_tuning, dbs)


def test_what_the_intervals_do_not_tell_apart_is_no_difference(run: dict[str, Any], tmp_path: Path) -> None:
    config = run | {"out": str(tmp_path)}
    make(config)
    scenario = Scenario("search", "codebert", "badcode", "0.02", elimination="elibadcode")
    path = scenario.results(tmp_path) / "metrics.json"
    for low, high, expected in ((0.0, 0.2, 0), (0.0, 0.002, 1)):
        measured = files.read_json(path)
        measured["testsets"]["badcode"]["metrics"]["anr"] |= {"value": 0.001, "low": low, "high": high}
        files.write_json(path, measured)
        lower = [entry for entry in rows(listing_of(config, "ordering"), "differences") if entry["metric"] == "ANR"]
        assert [(entry["better"], entry["opposite"]) for entry in lower if entry["worse"] == "Undefended"] == [
            ("EliBadCode", 1)
        ] * expected


def test_reasons_need_the_table_that_shows_them() -> None:
    grid = {"datasets": ["d"], "models": ["m"], "attacks": ["a"]}
    with pytest.raises(ValidationError, match="write it under tables"):
        Experiment.model_validate({"title": "t", "grid": [grid], "differences": [{"dataset": "d", "reason": "so"}]})


def test_false_positives_and_negatives_are_counted(run: dict[str, Any]) -> None:
    listing = listing_of(run, "detection")
    dbs = row(listing, "rates", defense="DBS", error="False positive")
    # flagged on CodeT5 for defects and clones; search is a dash
    assert (dbs["hits"], dbs["n"], dbs["value"], dbs["paper"]) == (2, 4, 0.5, 0.5)
    entry = row(listing, "rates", defense="EliBadCode", error="False positive")
    assert (entry["hits"], entry["n"], entry["paper"]) == (0, 4, 0.0)
    assert entry["high"] == pytest.approx(1 - 0.025 ** (1 / 4))
    assert row(listing, "rates", defense="EliBadCode", error="False negative")["n"] == 12
    # the made-up trigger of clones names label 1, the target is 0
    assert row(listing, "rates", defense="EliBadCode", error="Another label")["hits"] == 6
    # the paper's rates are those of classifiers; the made-up words for CodeT5 do not include the attacked one
    search = [rate for rate in rows(listing, "rates") if rate["defense"] == "EliBadCode, search"]
    assert [(rate["error"], rate["hits"], rate["n"], "paper" in rate) for rate in search] == [
        ("False positive", 0, 2, False),
        ("False negative", 0, 6, False),
        ("Another word", 3, 6, False),
    ]
    right = {verdict["victim"]: verdict["right"] for verdict in rows(listing, "verdicts")}
    assert [right[f"search · {model} · BadCode at 2%"] for model in ("CodeBERT", "CodeT5")] == ["yes", "no"]
    assert len(rows(listing, "verdicts")) == 24 + 16


def test_a_verdict_on_a_word_that_the_defender_was_told_counts_for_nothing(run: dict[str, Any]) -> None:
    settings = run["eliminations"] | {"elibadcode": run["eliminations"]["elibadcode"] | {"target_word": "file"}}
    told = listing_of(run | {"eliminations": settings}, "detection")
    assert not [rate for rate in rows(told, "rates") if rate["defense"] == "EliBadCode, search"]
    # with labels, the setting means nothing
    assert [rate for rate in rows(told, "rates") if rate["defense"] == "EliBadCode"]
    verdicts = {
        verdict["right"]
        for verdict in rows(told, "verdicts")
        if verdict["defense"] == "EliBadCode" and verdict["victim"].startswith("search")
    }
    assert verdicts == {None}


def test_what_unlearning_left_and_its_scans_stand_beside_every_verdict(run: dict[str, Any], tmp_path: Path) -> None:
    config = run | {"out": str(tmp_path)}
    make(config)
    scanned = Scenario("defects", "codebert", "by_name", "0.02", elimination="elibadcode")
    history = files.read_json(scanned.victim(tmp_path) / "elimination.json")
    files.write_json(
        scanned.victim(tmp_path) / "elimination.json", history | {"rounds": [{"flagged": True}, {"flagged": False}]}
    )
    detection = listing_of(config, "detection")

    def facts(victim: str, defense: str) -> tuple[Value, Value]:
        verdict = row(detection, "verdicts", victim=victim, defense=defense)
        return verdict["left"], verdict["scans"]

    assert facts("defects · CodeBERT · by name at 2%", "EliBadCode") == (
        left(scanned),
        "2, the last clean",
    )
    assert facts("defects · CodeBERT · by name at 2%", "DBS") == (left(replace(scanned, elimination="dbs")), None)
    # a benign victim has no backdoor that could be left, and a search no label to flip to
    assert facts("defects · CodeBERT · no attack", "EliBadCode") == (None, None)
    assert facts("search · CodeBERT · by name at 2%", "EliBadCode") == (None, None)
    paths = inputs(Study(config, "all").experiment, "detection", tmp_path)
    assert {scanned.results(tmp_path) / "metrics.json", scanned.victim(tmp_path) / "elimination.json"} <= {*paths}


def test_inverted_triggers_stand_beside_the_factual_one(run: dict[str, Any]) -> None:
    listing = listing_of(run, "inverted_triggers")
    victim = "defects · CodeBERT · by name at 2%"
    anchored = row(listing, "triggers", victim=victim, defense="EliBadCode", anchoring="yes")
    assert (anchored["ld"], anchored["bleu"], anchored["paper_ld"], anchored["paper_bleu"]) == (
        0,
        pytest.approx(1),
        6,
        pytest.approx(0.2956),
    )
    unanchored = row(listing, "triggers", victim=victim, defense="EliBadCode", anchoring="no")
    assert (unanchored["ld"], unanchored["paper_ld"]) == (5, 16)
    dbs = row(listing, "triggers", victim=victim, defense="DBS")
    assert (dbs["anchoring"], dbs["paper_ld"]) == ("no", 19)
    badcode = row(listing, "triggers", victim=victim.replace("by name", "BadCode"), defense="DBS")
    assert (badcode["factual"], badcode["ld"]) == ("rb", 10)
    drawn = row(listing, "triggers", victim=victim.replace("by name", "AFRAIDOOR"), defense="DBS")
    assert (drawn["factual"], drawn["ld"]) == (None, None)


def test_an_anchoring_that_drops_nothing_keeps_both_of_the_papers_values(run: dict[str, Any], tmp_path: Path) -> None:
    config = run | {"out": str(tmp_path)}
    make(config)
    scenario = Scenario("defects", "codebert", "by_name", "0.02", elimination="elibadcode")
    path = scenario.victim(tmp_path) / "trigger.json"
    files.write_json(path, files.read_json(path) | {"inverted_text": "testo_init"})
    victim = "defects · CodeBERT · by name at 2%"
    entries = [
        row(
            listing_of(config, "inverted_triggers"),
            "triggers",
            victim=victim,
            defense="EliBadCode",
            anchoring=anchoring,
        )
        for anchoring in ("yes", "no")
    ]
    assert [(scenario["ld"], scenario["paper_ld"]) for scenario in entries] == [(0, 6), (0, 16)]


def test_times_stand_beside_the_papers(run: dict[str, Any]) -> None:
    entry = row(listing_of(run, "times"), "times", victim="clones · CodeT5 · by name at 2%", defense="EliBadCode")
    assert (entry["inversion"], entry["paper_inversion"], entry["paper_unlearning"]) == (11.0, 53 * 60 + 9, 8 * 60 + 10)
    assert [labels.seconds(value) for value in (4.21, 59.99, 1360)] == ["4.2s", "60.0s", "22m40s"]


def test_scans_after_unlearning_have_their_time(run: dict[str, Any], tmp_path: Path) -> None:
    config = run | {"out": str(tmp_path)}
    make(config)
    scanned = Scenario("defects", "codebert", "by_name", "0.02", elimination="elibadcode")
    path = scanned.victim(tmp_path) / "provenance.json"
    job = files.read_json(path)
    files.write_json(path, job | {"phases": {**job["phases"], "rescan": 30.0}})
    times = listing_of(config, "times")
    again = row(times, "times", victim="defects · CodeBERT · by name at 2%", defense="EliBadCode")
    once = row(times, "times", victim="defects · CodeBERT · by name at 2%", defense="DBS")
    assert (again["rescan"], once["rescan"], "paper_rescan" in again) == (30.0, None, False)


def test_a_job_that_names_no_phases_is_left_out(run: dict[str, Any], tmp_path: Path) -> None:
    config = run | {"out": str(tmp_path)}
    make(config)
    scenario = Scenario("defects", "codebert", "by_name", "0.02", elimination="dbs")
    files.write_json(scenario.victim(tmp_path) / "provenance.json", {"stage": "eliminate", "seconds": 3})
    assert len(rows(listing_of(config, "times"), "times")) == len(rows(listing_of(run, "times"), "times")) - 1


def test_pairs_are_of_the_same_victim(run: dict[str, Any]) -> None:
    listing = listing_of(run, "significance")
    entry = row(listing, "here", measure="ASR", defense="DBS")
    # two tasks, two models, three attacks; DBS is worse by 0.4 of what is above the floor everywhere
    assert (entry["pairs"], entry["shift"], entry["effect"]) == (12, pytest.approx(0.32), 1.0)
    assert (entry["paired_p"], entry["holm_p"]) == (pytest.approx(2 / 2**12), pytest.approx(4 / 2**12))
    assert row(listing, "here", measure="ANR", defense="ONION")["shift"] == pytest.approx(-0.1)
    assert not [candidate for candidate in rows(listing, "here") if candidate["defense"] == "Undefended"]
    printed = row(listing, "elibadcode_table1", measure="ASR", defense="DBS")
    assert (printed["pairs"], printed["paired_p"]) == (18, pytest.approx(2 / 2**18))
    assert printed["tested_mean"] == pytest.approx(1.1945 / 18)


def test_papers_ablations_stand_beside_variants_that_are_named(run: dict[str, Any]) -> None:
    study = Study(run, "ablation")
    scenario = Scenario("defects", "codebert", "by_name", "0.02", elimination="no_anchoring")
    printed = study.printed(scenario, "by_name", "asr")
    assert printed is not None
    assert printed.value == pytest.approx(0.0008)
    table = build(study, collect(study, inputs(study.experiment, "table", run["out"])))
    assert any("no anchoring is its EliBadCode (without anchoring)" in note for note in table.notes)


def test_every_seed_has_its_flip_rate_beside_mean_and_range(run: dict[str, Any], tmp_path: Path) -> None:
    config = run | {"out": str(tmp_path)}
    (grid,) = config["experiments"]["all"]["grid"]
    seeds = {**grid, "seeds": [1, 2, 10]}
    config |= {"experiments": {"all": {**config["experiments"]["all"], "grid": [seeds]}}}
    make(config)
    scanned = Scenario("defects", "codebert", "by_name", "0.02", elimination="elibadcode")
    for seed, value in (("2", 1.0), ("10", None)):
        path = replace(scanned, seed=seed).results(tmp_path) / "metrics.json"
        measured = files.read_json(path)
        measured["testsets"]["by_name"]["metrics"]["flip_rate"]["value"] = value
        files.write_json(path, measured)
    listing = listing_of(config, "seeds")
    assert [part.title for part in listing.parts] == [
        *("defects · CodeBERT", "defects · CodeT5", "clones · CodeBERT", "clones · CodeT5"),
        *("search · CodeBERT", "search · CodeT5"),
    ]
    defenses = ["Benign", "Undefended", "DBS", "EliBadCode", "ONION"]
    assert [verdict["defense"] for verdict in rows(listing, "defects codebert")] == defenses * len(ATTACKS)
    attack = "by name at 2%"
    missed = row(listing, "defects codebert", attack=attack, defense="EliBadCode")
    # the same made-up value on every seed but the two that were changed
    assert missed["flip_rate"] == Marked((left(scanned) + 1.0) / 2, f" ×2 [{100 * left(scanned):.1f}, 100.0]")
    assert missed["seeds"] == f"{100 * left(scanned):.1f}, 100.0, –"
    assert missed["accuracy"] == Marked(pytest.approx(0.78), " [78.0, 78.0]")
    benign = row(listing, "defects codebert", attack=attack, defense="Benign")
    assert benign["seeds"] == "2.0, 2.0, 2.0"
    search = row(listing, "search codet5", attack=attack, defense="ONION")
    assert (search["seeds"], search["mrr"]) == ("11.8, 11.8, 11.8", Marked(pytest.approx(0.8), " [80.0, 80.0]"))
    lines = listings.as_markdown(listing).splitlines()
    assert "| Attack | Defense | Accuracy | ASR | ASR floor | Flip rate | Flip rate, seeds 1, 2, 10 |" in lines
    assert "- Percent. Means of 3 seeds; in brackets the smallest and the largest." in lines


def test_of_one_seed_the_interval_stands_in_brackets(run: dict[str, Any]) -> None:
    listing = listing_of(run, "seeds")
    defended = Scenario("defects", "codet5", "badcode", "0.02", elimination="dbs")
    value = row(listing, "defects codet5", attack="BadCode at 2%", defense="DBS")
    low, high = (f"{100 * (left(defended) + shift):.1f}" for shift in (-0.03, 0.03))
    assert value["flip_rate"] == Marked(left(defended), f" [{low}, {high}]")
    assert value["seeds"] == f"{100 * left(defended):.1f}"
    assert listing.notes == ("Percent. In brackets the 95% bootstrap interval over test rows (one seed).",)
    assert listing.parts[0].columns[-1].head == "Flip rate, seed 1"


@pytest.mark.parametrize("kind", LISTINGS)
def test_all_forms_are_written(run: dict[str, Any], kind: str, tmp_path: Path) -> None:
    stage.listing(run, "all", kind, inputs(Study(run, "all").experiment, kind, run["out"]), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"all.{kind}.{suffix}" for suffix in ("csv", "md", "tex")
    ]
    listing = listing_of(run, kind)
    csv_rows = list(csv.DictReader(io.StringIO((tmp_path / f"all.{kind}.csv").read_text())))
    assert len(csv_rows) == sum(len(part.rows) for part in listing.parts)
    for block in (tmp_path / f"all.{kind}.md").read_text().split("## ")[1:]:
        bars = {line.replace(r"\|", "").count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(bars) == ("\nNothing to show." not in block)
    for line in (tmp_path / f"all.{kind}.tex").read_text().splitlines():
        assert line.startswith("%") or "%" not in line.replace(r"\%", "")
    assert captions.caption(Study(run, "all"), kind)


@pytest.mark.parametrize(
    "wrong", [{"tables": ["significance"]}, {"tested": "dbs"}, {"figures": ["sweep"]}, {"swept": "beta"}]
)
def test_what_a_product_is_about_is_named(wrong: dict[str, Any]) -> None:
    grid = {"datasets": ["d"], "models": ["m"], "attacks": ["a"]}
    with pytest.raises(ValidationError, match="write both, or neither"):
        Experiment.model_validate({"title": "t", "grid": [grid], **wrong})


def test_the_cross_table_has_the_metrics_of_other_benchmarks(run: dict[str, Any]) -> None:
    cross = listing_of(run, "cross")
    entry = row(cross, "defects codebert", attack="by name at 2%", defense="EliBadCode")
    undefended = row(cross, "defects codebert", attack="by name at 2%", defense="Undefended")
    assert "clean_cost" not in undefended
    assert entry["clean_cost"] == pytest.approx(0.02)
    # the ASR falls from 84 to 20%, the accuracy from 80 to 78%
    assert entry["der"] == pytest.approx((0.64 - 0.02 + 1) / 2)
    benign = 0.216
    assert entry["asrd"] == pytest.approx(0.2 - benign)
    assert undefended["asrd"] == pytest.approx(0.84 - benign)
    # ranks have neither a rate of success nor a label
    search = rows(cross, "search codebert")
    assert all("der" not in values and "asrd" not in values for values in search)


def test_an_attack_that_hardly_works_is_marked(tmp_path: Path) -> None:
    config = settings(tmp_path)
    make(config)
    path = Scenario("defects", "codebert", "by_name", "0.02").results(tmp_path) / "metrics.json"
    measured = files.read_json(path)
    measured["testsets"]["by_name"]["metrics"]["asr"]["value"] = 0.49
    files.write_json(path, measured)
    marked = {str(values["attack"]) for values in rows(listing_of(config, "cross"), "defects codebert")}
    assert {"by name at 2%*", "BadCode at 2%"} <= marked
    assert "by name at 2%" not in marked


def test_an_undefined_flip_rate_is_a_dash_that_the_cross_table_explains(run: dict[str, Any], tmp_path: Path) -> None:
    assert not any(note.startswith(labels.DASH) for note in listing_of(run, "cross").notes)
    config = settings(tmp_path)
    make(config)
    path = Scenario("defects", "codebert", "by_name", "0.02", elimination="dbs").results(tmp_path) / "metrics.json"
    measured = files.read_json(path)
    measured["testsets"]["by_name"]["metrics"]["flip_rate"] |= {"value": None, "low": None, "high": None}
    files.write_json(path, measured)
    cross = listing_of(config, "cross")
    assert row(cross, "defects codebert", attack="by name at 2%", defense="DBS")["flip_rate"] is None
    assert f"{labels.DASH}: undefined, for example because {labels.NO_FLIP_RATE}." in cross.notes
    assert f"| by name at 2% | DBS | {labels.DASH} | " in listings.as_markdown(cross)


def test_a_part_without_rows_says_so(run: dict[str, Any]) -> None:
    ordering = listing_of(run, "ordering")
    parts = tuple(replace(part, rows=()) for part in ordering.parts)
    text = listings.as_markdown(replace(ordering, parts=parts))
    assert f"## {parts[0].title}\n\nNothing to show.\n" in text
    assert "|" not in text


def test_a_claim_holds_where_the_whole_interval_is_on_its_side(run: dict[str, Any]) -> None:
    claims = listing_of(run, "claims")
    against_dbs = row(claims, "claims", against="DBS", task="defect detection")
    # left(): DBS leaves 40 points more of the flip rate and 32 of the ASR, on each of six victims
    assert against_dbs["victims"] == 6
    assert isinstance(difference := against_dbs["difference"], Marked)
    assert difference.value == pytest.approx(-0.32)
    assert isinstance(left := against_dbs["left"], Marked)
    assert left.value == pytest.approx(-0.4)
    assert (against_dbs["verdict"], against_dbs["left_verdict"]) == ("holds", "holds")
    # of the ANR more is better
    search = row(claims, "claims", against="ONION", task="code search")
    assert isinstance(search["difference"], Marked)
    assert search["difference"].value < 0
    assert search["verdict"] == "holds"
    # exactly the two points that the paper's bound allows
    cost = row(
        claims, "claims", claim="EliBadCode costs at most 2 points on clean inputs (Table 1)", task="code search"
    )
    assert (cost["verdict"], "left" in cost) == ("holds", False)
    # CodePurify and DeCE are in no grid here
    assert {values["paper"] for values in rows(claims, "claims")} == {"EliBadCode"}


def test_a_claim_that_some_victims_contradict_is_undecided_or_does_not_hold(tmp_path: Path) -> None:
    config = settings(tmp_path)
    make(config)

    def set_asr(attacks: tuple[str, ...], value: float, elimination: str = "elibadcode") -> Value:
        for attack in attacks:
            for model in ("codebert", "codet5"):
                scenario = Scenario("defects", model, attack, "0.02", elimination=elimination)
                path = scenario.results(tmp_path) / "metrics.json"
                measured = files.read_json(path)
                measured["testsets"][attack]["metrics"]["asr"] |= {"value": value, "low": value, "high": value}
                files.write_json(path, measured)
        return row(listing_of(config, "claims"), "claims", against="DBS", task="defect detection")["verdict"]

    assert set_asr(("by_name",), 1.0) == "undecided"
    attacks = tuple(name for name in ATTACKS if name != "none")
    assert set_asr(("by_name", *attacks), 1.0) == "does not hold"
    # "leaves less" fails where both leave the same, up to what is printed
    assert set_asr(attacks, 1.0, "dbs") == "does not hold"
    assert set_asr(attacks, 0.9998) == "does not hold"
    assert set_asr(attacks, 0.99) == "holds"


def test_a_victim_without_a_flip_rate_counts_by_the_papers_metric_alone(tmp_path: Path) -> None:
    config = settings(tmp_path)
    make(config)
    before = row(listing_of(config, "claims"), "claims", against="DBS", task="defect detection")
    path = Scenario("defects", "codebert", "by_name", "0.02", elimination="elibadcode").results(tmp_path)
    measured = files.read_json(path / "metrics.json")
    measured["testsets"]["by_name"]["metrics"]["flip_rate"] |= {"value": None, "low": None, "high": None}
    files.write_json(path / "metrics.json", measured)
    after = row(listing_of(config, "claims"), "claims", against="DBS", task="defect detection")
    assert (after["victims"], after["difference"]) == (before["victims"], before["difference"])
    assert isinstance(left := after["left"], Marked)
    assert isinstance(victims := before["victims"], int)
    assert left.mark.endswith(f"], {victims - 1} of {victims} victims")
    assert isinstance(complete := before["left"], Marked)
    assert "victims" not in complete.mark


def test_a_cost_of_one_victim_has_the_interval_of_its_rows(tmp_path: Path) -> None:
    import made_up_run

    config = made_up_run.settings(tmp_path)
    made_up_run.make(config)
    claims = listing_of(config, "claims", "repair")
    cost = row(claims, "claims", claim="DeCE preserves the performance on clean inputs, within 1 point (section 5.1)")
    assert cost["victims"] == 1
    # the rows of both victims are uncertain by three points
    assert isinstance(difference := cost["difference"], Marked)
    assert re.fullmatch(r" \[-\d\.\d, \+\d\.\d\]", difference.mark)
    assert cost["verdict"] == "undecided"


def test_a_variant_that_says_how_it_paraphrases_stands_for_paraphrasing(tmp_path: Path) -> None:
    import made_up_run

    config = made_up_run.settings(tmp_path)
    text = json.dumps(config).replace('"onion"', '"paraphrasing_rules"')
    config = json.loads(text)
    config["purifications"]["paraphrasing_rules"] = {"method": "paraphrasing"}
    config["experiments"]["defects"]["grid"][0]["objectives"] = ["cross_entropy", "dece"]
    made_up_run.make(config)
    assert (
        row(listing_of(config, "claims", "defects"), "claims", paper="DeCE", against=labels.word("paraphrasing"))[
            "victims"
        ]
        == 2
    )
