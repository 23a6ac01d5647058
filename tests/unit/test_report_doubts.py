"""What makes a table say little is said in the report and in the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up_grid
import pytest
from made_up_run import make, settings

from codebackdoor import files
from codebackdoor.config.scenario import Scenario
from codebackdoor.report import stage
from codebackdoor.report.doubts import doubts
from codebackdoor.report.study import Study

ATTACKED = Scenario("defects", "codebert", "by_name", "0.05")


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    return small_run(tmp_path, 1)


def small_run(out: Path, *seeds: int) -> dict[str, Any]:
    config = settings(out, seeds)
    config["experiments"] = {"defects": config["experiments"]["defects"] | {"figures": []}}
    config["experiments"]["defects"]["grid"][0] |= {"attacks": ["none", "by_name"], "purifications": ["none"]}
    make(config)
    return config


def measure(run: dict[str, Any], scenario: Scenario, testset: str, **metrics: Any) -> None:
    path = scenario.results(run["out"]) / "metrics.json"
    measured = files.read_json(path)
    for name, values in metrics.items():
        measured["testsets"][testset]["metrics"][name] |= dict(zip(("value", "low", "high"), values, strict=True))
    files.write_json(path, measured)


def sentences_of(run: dict[str, Any], name: str = "defects") -> list[str]:
    return list(doubts(Study(run, name)))


def test_a_victim_without_a_backdoor_is_named_in_report_and_terminal(tmp_path: Path) -> None:
    run = small_run(tmp_path, 1, 2)
    assert sentences_of(run) == []
    assert "Warning" not in stage.summary(run)
    scenario = replace(ATTACKED, seed="2")
    measure(run, scenario, "by_name", asr=(0.5, 0.4, 0.6), floor=(0.49, 0.4, 0.6), asr_minus_floor=(0.01, 0.0, 0.03))
    (doubt,) = sentences_of(run)
    assert doubt == (
        "defects · CodeBERT · by name at 5%, seed 2: the undefended ASR (50.0%) is at its floor (49.0%): the victim "
        "did not learn the backdoor, and no defense can be judged on it. More rows, a higher poison rate or more "
        "epochs may help."
    )
    assert " ".join(stage.summary(run).split()).count(f"Warning: {doubt}") == 1
    page = Path(run["out"]) / "report.html"
    stage.html(run, [], None, page)
    assert f'<li><b class="wrong">Warning:</b> {doubt}</li>' in page.read_text()


def test_of_an_unfinished_run_what_is_measured_is_judged(run: dict[str, Any]) -> None:
    measure(run, ATTACKED, "by_name", asr_minus_floor=(0.02, -0.1, 0.05))
    (ATTACKED.benign().results(run["out"]) / "metrics.json").unlink()
    assert len(sentences_of(run)) == 1
    (ATTACKED.results(run["out"]) / "metrics.json").unlink()
    assert sentences_of(run) == []


@pytest.mark.parametrize(("low", "count"), [(0.001, 0), (0.0, 1), (-0.2, 1), (None, 0)])
def test_the_interval_decides_whether_an_attack_is_learned(run: dict[str, Any], low: float | None, count: int) -> None:
    measure(run, ATTACKED, "by_name", asr_minus_floor=(0.02, low, 0.05))
    # a defense that brings the ASR to its floor is what is hoped for
    measure(run, replace(ATTACKED, elimination="elibadcode"), "by_name", asr_minus_floor=(0.0, -0.1, 0.1))
    assert len(sentences_of(run)) == count


def test_in_a_search_the_rank_decides(tmp_path: Path) -> None:
    config = made_up_grid.settings(tmp_path)
    config["experiments"] = {"all": config["experiments"]["all"]}
    made_up_grid.make(config)
    scenario = Scenario("search", "codebert", "badcode", "0.02")
    before = sentences_of(config, "all")
    measure(config, scenario, "badcode", anr_drop=(0.0, -0.01, 0.01), anr=(0.25, 0.2, 0.3))
    (doubt,) = {*sentences_of(config, "all")} - {*before}
    assert doubt.startswith(
        "search · CodeBERT · BadCode at 2%: the undefended ANR (25.0%) is at its floor (25.0%): the victim did not"
    )


@pytest.mark.parametrize(
    ("accuracy", "counts", "count"),
    [
        ((0.5, 0.46, 0.54), {"0": 150, "1": 150}, 1),
        ((0.55, 0.51, 0.59), {"0": 150, "1": 150}, 0),
        ((0.9, 0.87, 0.92), {"0": 270, "1": 30}, 1),
        ((0.95, 0.92, 0.97), {"0": 270, "1": 30}, 0),
        ((None, None, None), {"0": 150, "1": 150}, 0),
    ],
)
def test_an_accuracy_of_one_class_is_named(
    run: dict[str, Any], accuracy: tuple[float | None, ...], counts: dict[str, int], count: int
) -> None:
    run["experiments"] = {"defects": run["experiments"]["defects"]}
    run["experiments"]["defects"]["grid"] = [{"datasets": ["defects"], "models": ["codebert"], "attacks": ["none"]}]
    run["experiments"]["defects"]["grid"][0]["eliminations"] = ["none", "elibadcode"]
    edited = Scenario("defects", "codebert", elimination="elibadcode")
    for scenario in (edited.undefended(), edited):
        measure(run, scenario, "clean", accuracy=(0.99, 0.98, 1.0))
    measure(run, edited, "clean", accuracy=accuracy)
    card = Path(run["out"]) / "data/defects/card.json"
    facts = files.read_json(card)
    facts["splits"]["test"]["labels"] = counts
    files.write_json(card, facts)
    sentences = sentences_of(run)
    assert len(sentences) == count
    if count:
        share = max(counts.values()) / 3
        assert sentences == [
            f"defects · CodeBERT · no attack, EliBadCode: an accuracy of {100 * accuracy[0]:.1f}% on clean rows is "
            f"not clearly above the {share:.1f}% of the same label for every row."
        ]


@pytest.mark.parametrize(("share", "count"), [(0.978, 1), (0.5, 0), (None, 0)])
@pytest.mark.parametrize("folder", ["onion", "onion/codebert"])
def test_a_filter_that_leaves_few_rows_is_named(
    run: dict[str, Any], share: float | None, count: int, folder: str
) -> None:
    run["filterings"] = {"onion": {"method": "onion"}}
    run["experiments"]["defects"]["grid"] = [
        {"datasets": ["defects"], "models": ["codebert"], "attacks": ["by_name"], "filterings": ["none", "onion"]}
    ]
    make(run)
    poisoned = {"there": 5, "dropped": 4, "share": 0.8}
    rows = {"rows": {"clean": {"there": 100, "dropped": 0, "share": share}, "poisoned": poisoned}}
    files.write_json(ATTACKED.poison(run["out"]) / "filtered" / folder / "filtering.json", rows)
    sentences = sentences_of(run)
    assert len(sentences) == count
    warning = "ONION: the filter dropped 97.8% of the clean training rows and 4 of 5 poisoned ones."
    assert all(warning in sentence for sentence in sentences)
