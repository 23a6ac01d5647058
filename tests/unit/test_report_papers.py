"""The papers' values as data: what was transcribed, checked against what the papers say elsewhere."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import pytest
from pydantic import ValidationError

from codebackdoor.config.experiments import PaperTable, scenarios
from codebackdoor.config.loading import load
from codebackdoor.report import papers
from codebackdoor.report.papers import Key
from codebackdoor.report.study import Study
from codebackdoor.types import CLEAN

ROOT = Path(__file__).parents[2]
ANCHORLESS = "elibadcode_without_anchoring"


def value(
    table: str, task: str, model: str, attack: str, defense: str, metric: str, rate: float | None = None
) -> float | None:
    if rate is None:
        rate = 0.02 if table.startswith("elibadcode") else 0.05
    return papers.tables()[table].value(Key(task, model, attack, defense), rate, metric)


def test_every_table_of_elibadcode_stands_beside_an_experiment() -> None:
    config = load([ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml"])
    shown = {one.table for experiment in config.experiments.values() for one in experiment.paper}
    assert shown == {f"elibadcode_table{number}" for number in range(1, 10)}
    # where the defenses are compared, so is their order
    table1 = config.experiments["elibadcode_table1"]
    assert {one.table for one in table1.paper} == {f"elibadcode_table{number}" for number in (1, 2, 3, 6, 9)}
    assert "ordering" in table1.tables


@pytest.mark.parametrize("names", [["elibadcode"], ["elibadcode", "elibadcode/paper"]], ids=" ".join)
def test_every_row_of_elibadcodes_tables_stands_beside_a_scenario(names: list[str]) -> None:
    config = load([ROOT / "config.yaml", *(ROOT / f"configs/{name}.yaml" for name in names)])
    settings = config.model_dump(mode="json")
    shown: dict[str, set[tuple[Key | None, float | None]]] = defaultdict(set)
    for name, experiment in config.experiments.items():
        for wanted in experiment.paper:
            for scenario in scenarios(experiment):
                # no row is shown at another rate than it was poisoned at: the grid is the paper's
                assert wanted.rate is None
                rate = float(scenario.rate) if papers.tables()[wanted.table].states_rate else None
                shown[wanted.table] |= {
                    (Study(settings, name).key(scenario, wanted, at), rate) for at in (CLEAN, scenario.attack)
                }
    for name, table in papers.tables().items():
        if table.paper == "EliBadCode":
            printed = {(key, rate) for key, rate, values in table.rows if set(values.values()) != {None}}
            # what Table 6 has beside is the inverted trigger of the same elimination, before its pieces are dropped
            apart = {row for row in printed if (name, row[0].defense) == ("elibadcode_table6", ANCHORLESS)}
            assert printed - apart - shown[name] == set(), name


def test_an_experiment_may_name_every_printed_table_and_no_other() -> None:
    for name in papers.tables():
        assert PaperTable.model_validate({"table": name}).table == name
    with pytest.raises(ValidationError, match="unknown table of a paper 'dece_table7'; did you mean 'dece_table"):
        PaperTable.model_validate({"table": "dece_table7"})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (("elibadcode_table1", "defect_detection", "codebert", "codepoisoner_identifier", "elibadcode", "asr"), 0.0024),
        (("elibadcode_table1", "clone_detection", "unixcoder", "badcode", "dbs", "f1"), 0.9706),
        (("elibadcode_table1", "code_search", "codet5", "afraidoor", "attdef", "mrr"), 0.81),
        (("elibadcode_table1", "code_search", "codet5", "afraidoor", "dbs", "mrr"), None),
        (("elibadcode_table2", "code_search", "unixcoder", "codepoisoner_identifier", "fine_tuning", "anr"), 0.1522),
        (("elibadcode_table3", "clone_detection", "codet5", "badcode", "fine_tuning", "asr"), 0.9671),
        (("elibadcode_table7", "code_search", "codebert", "adaptive_length_10", "elibadcode", "anr"), 0.2247),
        (("elibadcode_table8", "clone_detection", "starcoder", "codepoisoner_identifier", "attdef", "f1"), 0.6543),
        (("codepurify_table2", "code_repair", "codet5", "codepoisoner_identifier", "onion", "asr"), 0.7451),
        (("codepurify_table2", "code_repair", "codet5", "bnc_fixed", "oseql", "asr"), None),
        (("codepurify_table3", "defect_detection", "codebert", "bnc_grammar", "undefended", "accuracy"), 0.6288),
    ],
)
def test_printed_values(where: tuple[str, ...], expected: float | None) -> None:
    found = value(*where)
    assert found == (None if expected is None else pytest.approx(expected))


def test_rates_are_told_apart_where_the_paper_states_them() -> None:
    where = ("codepurify_table2", "defect_detection", "codebert", "bnc_fixed", "codepurify", "asr")
    assert value(*where, rate=0.05) == pytest.approx(0.3633)
    assert value(*where, rate=0.01) == pytest.approx(0.2701)
    assert value(*where, rate=0.02) is None
    dece = ("dece_table5", "code_repair", "codet5", "deadcode", "dece", "codebleu")
    assert value(*dece, rate=0.01) == pytest.approx(0.7513)
    benign = ("elibadcode_table4", "defect_detection", "codet5", "none", "undefended", "accuracy")
    assert value(*benign, rate=0.0) == pytest.approx(0.6417)


def test_elibadcode_poisons_2_percent_of_the_training_data() -> None:
    """Section 5.1, whose settings hold for the tables of all its research questions; section 6.1 says nothing."""
    for number in (1, 2, 3, 5, 6, 7, 9):
        table = papers.tables()[f"elibadcode_table{number}"]
        assert {rate for _, rate, _ in table.rows} == {0.02}
        assert table.states_rate
    where = ("elibadcode_table1", "defect_detection", "codebert", "codepoisoner_identifier", "elibadcode", "asr")
    assert (value(*where, rate=0.02), value(*where, rate=0.05), value(*where, rate=0.0)) == (0.0024, None, None)
    silent = ("elibadcode_table8", "defect_detection", "starcoder", "codepoisoner_identifier", "undefended", "asr")
    assert value(*silent, rate=0.02) == value(*silent, rate=0.05) == 0.9657
    assert [name for name, table in papers.tables().items() if not table.states_rate] == ["elibadcode_table8"]


@pytest.mark.parametrize(
    "path",
    [ROOT / "config.yaml", *sorted(ROOT.glob("configs/*.yaml")), *sorted(ROOT.glob("configs/elibadcode/*.yaml"))],
    ids=lambda path: path.stem,
)
def test_a_study_at_another_rate_names_the_papers(path: Path) -> None:
    below = {"afraidoor": ["elibadcode"], "onion_filter": ["elibadcode"]}.get(path.stem, [])
    below = ["elibadcode"] if path == ROOT / "configs/elibadcode/paper.yaml" else below
    layers = [ROOT / "config.yaml", *(ROOT / f"configs/{name}.yaml" for name in below), path]
    for experiment in load(layers).experiments.values():
        rates = {float(scenario.rate) for scenario in scenarios(experiment) if scenario.attack != "none"}
        for wanted in experiment.paper:
            table = papers.tables()[wanted.table]
            printed = {rate for key, rate, _ in table.rows if key.attack in wanted.attacks.values()}
            # something of what is named stands beside
            assert not printed or None in printed or printed & ({wanted.rate} if wanted.rate else rates)


def test_two_data_sets_of_one_task_are_no_value() -> None:
    assert value("dece_table4", "code_generation", "codet5", "ripple", "dece", "bleu") is None


def test_codepurifys_averages_in_its_text() -> None:
    """Section V-A: average ASR from 98.97-100 to 2.39-44.24; section V-B: 0.23 and 0.98 points of accuracy."""
    means = defaultdict(list)
    for table in ("codepurify_table2", "codepurify_table3"):
        for key, _, values in papers.tables()[table].rows:
            for metric, one in values.items():
                if one is not None:
                    means[key.task, key.model, key.defense, metric].append(one)
    average = {key: sum(own) / len(own) for key, own in means.items()}
    defended = [one for key, one in average.items() if key[2:] == ("codepurify", "asr")]
    assert min(defended) == pytest.approx(2.39, abs=0.006)
    assert max(defended) == pytest.approx(44.24, abs=0.006)
    for model, cost in (("codebert", 0.23), ("codet5", 0.98)):
        before, after = (average["defect_detection", model, one, "accuracy"] for one in ("undefended", "codepurify"))
        assert before - after == pytest.approx(cost, abs=0.011)


def test_elibadcodes_means_of_badcode() -> None:
    """ledger A3: 99.76 to 2.64 on defect detection agrees with the abstract, the accuracy loss of 1.19 does not."""
    means: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, _, values in papers.tables()["elibadcode_table1"].rows:
        if (key.task, key.attack) == ("defect_detection", "badcode"):
            for metric, one in values.items():
                means[key.defense, metric].append(one or math.nan)
    average = {key: sum(own) / len(own) for key, own in means.items()}
    assert average["undefended", "asr"] == pytest.approx(99.76, abs=0.005)
    assert average["elibadcode", "asr"] == pytest.approx(2.64, abs=0.005)
    assert average["undefended", "accuracy"] - average["elibadcode", "accuracy"] == pytest.approx(1.19, abs=0.005)


def test_every_value_is_a_percentage_a_rank_or_a_count() -> None:
    highest = {"%": 100, "1": 1, "edits": 19, "s": 53 * 60 + 9}
    for table in papers.tables().values():
        for _, _, values in table.rows:
            assert all(one is None or 0 <= one <= highest[table.units[name]] for name, one in values.items())


def test_elibadcodes_tables_are_whole() -> None:
    sizes = {1: 27 * 5, 2: 9, 3: 9, 4: 9 * 3, 5: 4, 6: 6, 7: 9, 8: 15, 9: 18}
    for number, rows in sizes.items():
        found = papers.tables()[f"elibadcode_table{number}"].rows
        assert len({(key, rate) for key, rate, _ in found}) == len(found) == rows
    # the whole method stands in Tables 1 and 5 with the same values, and the times are those of section 6.2
    own = ("defect_detection", "codebert", "codepoisoner_identifier", "elibadcode")
    assert value("elibadcode_table5", *own, "asr") == value("elibadcode_table1", *own, "asr") == 0.0024
    inversion = [
        values["inversion"] for key, _, values in papers.tables()["elibadcode_table9"].rows if key.defense == own[3]
    ]
    assert (min(filter(None, inversion)), max(filter(None, inversion))) == (22 * 60 + 40, 53 * 60 + 9)
