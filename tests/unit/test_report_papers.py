"""The papers' values as data: what was transcribed, checked against what the papers say elsewhere."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from codebackdoor.config.datasets import AnyDataset
from codebackdoor.config.experiments import PaperTable, scenarios
from codebackdoor.config.loading import load
from codebackdoor.files import read_json
from codebackdoor.report import labels, papers
from codebackdoor.report.collect import Cell, Results
from codebackdoor.report.papers import Key
from codebackdoor.report.study import Study, anonymous
from codebackdoor.report.tables import ordering
from codebackdoor.types import CLEAN

ROOT = Path(__file__).parents[2]
FOLDER = Path(papers.__file__).parent
TASKS = ("defect_detection", "clone_detection", "code_repair")
ANCHORLESS = "elibadcode_without_anchoring"


def value(
    table: str, task: str, model: str, attack: str, defense: str, metric: str, rate: float | None = None
) -> float | None:
    """A printed value of a task for which the table prints one data set."""
    if rate is None:
        rate = 0.02 if table.startswith("elibadcode") else 0.05
    (dataset,) = papers.tables()[table].datasets(task)
    return papers.tables()[table].value(Key(task, dataset, model, attack, defense), rate, metric)


def content(paper: str) -> dict[str, Any]:
    """The tables of a paper's file."""
    tables: dict[str, Any] = read_json(FOLDER / f"{paper}.json")["tables"]
    return tables


def test_every_table_of_elibadcode_stands_beside_an_experiment() -> None:
    config = load([ROOT / "config.yaml", ROOT / "configs/elibadcode.yaml"])
    cited_tables = {cited.table for experiment in config.experiments.values() for cited in experiment.paper}
    assert cited_tables == {f"elibadcode_table{number}" for number in range(1, 10)}
    # where the defenses are compared, so is their order
    table1 = config.experiments["elibadcode_table1"]
    assert {cited.table for cited in table1.paper} == {f"elibadcode_table{number}" for number in (1, 2, 3, 6, 9)}
    assert "ordering" in table1.tables


@pytest.mark.parametrize("names", [["elibadcode"], ["elibadcode", "elibadcode/paper"]], ids=" ".join)
def test_every_row_of_elibadcodes_tables_stands_beside_a_scenario(names: list[str]) -> None:
    config = load([ROOT / "config.yaml", *(ROOT / f"configs/{name}.yaml" for name in names)])
    settings = config.model_dump(mode="json")
    covered: dict[str, set[tuple[Key | None, float | None]]] = defaultdict(set)
    for name, experiment in config.experiments.items():
        for cited in experiment.paper:
            for scenario in scenarios(experiment):
                # no row is shown at another rate than it was poisoned at: the grid is the paper's
                assert cited.rate is None
                rate = float(scenario.rate) if papers.tables()[cited.table].states_rate else None
                covered[cited.table] |= {
                    (Study(settings, name).key(scenario, cited, at), rate) for at in (CLEAN, scenario.attack)
                }
    for name, table in papers.tables().items():
        if table.paper == "EliBadCode":
            printed = {(key, rate) for key, rate, values in table.rows if set(values.values()) != {None}}
            # what Table 6 has beside is the inverted trigger of the same elimination, before its pieces are dropped
            apart = {row for row in printed if (name, row[0].defense) == ("elibadcode_table6", ANCHORLESS)}
            assert printed - apart - covered[name] == set(), name


def test_an_experiment_may_name_every_printed_table_and_no_other() -> None:
    for name in papers.tables():
        assert PaperTable.model_validate({"table": name}).table == name
    with pytest.raises(ValidationError, match="unknown table of a paper 'dece_table12'; did you mean 'dece_table"):
        PaperTable.model_validate({"table": "dece_table12"})


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
    printed = value(*where)
    assert printed == (None if expected is None else pytest.approx(expected))


def test_rates_are_told_apart_where_the_paper_states_them() -> None:
    where = ("codepurify_table2", "defect_detection", "codebert", "bnc_fixed", "codepurify", "asr")
    assert value(*where, rate=0.05) == pytest.approx(0.3633)
    assert value(*where, rate=0.01) == pytest.approx(0.2701)
    assert value(*where, rate=0.02) is None
    dece = ("dece_table5", "code_repair", "codet5", "deadcode", "dece", "codebleu_released")
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
    # the others are sizes, settings and averages
    silent_tables = {name for name, table in papers.tables().items() if not table.states_rate}
    auxiliary = {"codepurify_table1", "codepurify_table4", "dece_table2", "dece_table3"}
    assert silent_tables == {"elibadcode_table8"} | auxiliary


@pytest.mark.parametrize(
    "path",
    [
        *(ROOT / "config.yaml", *sorted(ROOT.glob("configs/*.yaml")), *sorted(ROOT.glob("configs/elibadcode/*.yaml"))),
        *sorted(ROOT.glob("configs/dece/*.yaml")),
    ],
    ids=lambda path: path.stem if path.parent.name == "configs" else f"{path.parent.name}-{path.stem}",
)
def test_a_study_at_another_rate_names_the_papers(path: Path) -> None:
    below = ["elibadcode"] if path.stem in ("ablations", "afraidoor", "onion_filter") else []
    below = ["elibadcode"] if path == ROOT / "configs/elibadcode/paper.yaml" else below
    below = (
        ["dece"] if path in {ROOT / f"configs/dece/{name}.yaml" for name in ("paper", "real", "one_victim")} else below
    )
    layers = [ROOT / "config.yaml", *(ROOT / f"configs/{name}.yaml" for name in below), path]
    for experiment in load(layers).experiments.values():
        rates = {float(scenario.rate) for scenario in scenarios(experiment) if scenario.attack != "none"}
        for cited in experiment.paper:
            table = papers.tables()[cited.table]
            printed = {rate for key, rate, _ in table.rows if key.attack in cited.attacks.values()}
            # something of what is named stands beside
            assert not printed or None in printed or printed & ({cited.rate} if cited.rate else rates)


@pytest.mark.parametrize("name", papers.tables())
def test_every_printed_value_is_reached_by_its_key_alone(name: str) -> None:
    table = papers.tables()[name]
    rates = {rate for _, rate, _ in table.rows if rate is not None} or {0.05}
    for key, rate, values in table.rows:
        for metric, printed in values.items():
            at = rates if rate is None else {rate}
            share = printed is not None and table.units[metric] == "%"
            expected = pytest.approx(printed / 100, abs=1e-6) if share and printed is not None else printed
            assert all(table.value(key, at_rate, metric) == expected for at_rate in at)
    cells = [(key, rate, metric) for key, rate, values in table.rows for metric in values]
    assert len(cells) == len(set(cells))
    # no value for a rate that is not printed
    assert all(table.value(key, 0.77, metric) is None for key, rate, metric in cells if rate is not None)


def test_data_sets_of_one_task_are_told_apart() -> None:
    key = Key("code_generation", "lyra", "codet5", "ripple", "dece")
    table = papers.tables()["dece_table4"]
    assert table.value(key, 0.05, "bleu_rows") == pytest.approx(0.7166)
    assert table.value(replace(key, dataset="pisces"), 0.05, "bleu_rows") == pytest.approx(0.6266)
    cells = [key for number in (4, 5, 6) for key, _, _ in papers.tables()[f"dece_table{number}"].rows]
    assert sum(key.task == "code_generation" for key in cells) == 180


@pytest.mark.parametrize(
    ("table", "settings", "datasets", "expected"),
    [
        # local data stand next to the one that is printed
        ("codepurify_table3", {"task": "code_repair"}, {}, "bugs2fix_identifiers"),
        ("dece_table5", {"task": "code_repair"}, {}, "bugs2fix"),
        ("codepurify_table1", {"task": "defect_detection"}, {}, "devign"),
        ("elibadcode_table1", {"task": "code_search", "source": "mirror"}, {}, "codesearchnet"),
        # originals next to themselves
        ("dece_table5", {"task": "code_repair", "source": "mirror", "language": "java"}, {}, "bugs2fix"),
        ("codepurify_table3", {"task": "code_repair", "source": "mirror", "language": "java"}, {}, None),
        (
            "codepurify_table3",
            {"task": "code_repair", "source": "mirror", "language": "java", "original": "bugs2fix_identifiers"},
            {},
            "bugs2fix_identifiers",
        ),
        ("elibadcode_table1", {"task": "clone_detection", "source": "mirror", "language": "java"}, {}, "bigclonebench"),
        ("codepurify_table3", {"task": "clone_detection", "source": "mirror", "language": "java"}, {}, None),
        # a task that the table does not print
        ("elibadcode_table1", {"task": "code_repair"}, {}, None),
        # unless the configuration says otherwise
        ("codepurify_table3", {"task": "clone_detection"}, {"mine": "devign"}, "devign"),
    ],
)
def test_the_printed_data_set_next_to_ours(
    table: str, settings: dict[str, Any], datasets: dict[str, str], expected: str | None
) -> None:
    raw = TypeAdapter(AnyDataset).validate_python(settings).model_dump(mode="json")
    cited = PaperTable.model_validate({"table": table, "datasets": datasets})
    assert Study({"datasets": {"mine": raw}}, "any").printed_dataset("mine", cited) == expected


def test_of_several_printed_data_sets_the_configuration_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Study, "task", lambda *_: "code_generation")
    study = Study({"datasets": {"mine": {"task": "code_repair", "source": "jsonl"}}}, "any")
    assert study.printed_dataset("mine", PaperTable.model_validate({"table": "dece_table4"})) is None
    named = PaperTable.model_validate({"table": "dece_table4", "datasets": {"mine": "pisces"}})
    assert study.printed_dataset("mine", named) == "pisces"
    with pytest.raises(ValidationError, match="dece_table4 prints no data set 'piscess'; did you mean 'pisces'"):
        PaperTable.model_validate({"table": "dece_table4", "datasets": {"mine": "piscess"}})
    # experiments that do not name any keep their parameters
    assert "datasets" not in PaperTable.model_validate({"table": "dece_table4"}).model_dump(mode="json")


def test_every_column_names_a_metric_of_ours() -> None:
    # of further tables: the inverted trigger, times; of data and settings
    further_metrics = {"ld", "inversion", "unlearning", "training", "inference", "pass_1"}
    about_data = {name for number in (2, 3) for name in papers.tables()[f"dece_table{number}"].units}
    about_data |= papers.tables()["codepurify_table1"].units.keys()
    for table in papers.tables().values():
        assert table.units.keys() <= labels.METRICS.keys() | further_metrics | about_data
        assert all(values.keys() <= table.units.keys() for _, _, values in table.rows)
    # DeCE's BLEU and CodeBLEU have other definitions than CodePurify's BLEU and ours
    assert {"bleu_rows", "codebleu_released"} < papers.tables()["dece_table4"].units.keys()
    assert papers.tables()["codepurify_table3"].units.keys() == {"accuracy", "bleu"}


#: Attack and defense of a doubtful column of DeCE's Table 7.
RIPPLE = ("ripple", "onion")
#: Averages that are not the means of their rows, by table, model, defense and column: the mean, and what is printed.
WRONG_AVERAGES = {
    ("dece", "table4", "codet5", "in_trust", "bleu"): (70.18, 70.19),
    ("dece", "table5", "codebert", "bki", "asr"): (42.36, 42.52),
    ("dece", "table5", "codegen", "dece", "bleu"): (68.63, 68.83),
    ("dece", "table5", "codet5", "dece", "codebleu"): (73.36, 73.63),
}


def test_printed_averages_are_the_means_of_their_rows() -> None:
    wrong = {}
    for paper in papers.papers():
        for name, table in content(paper).items():
            for *about, printed in table.get("averages", ()):
                rows = [row for row in table["rows"] if all(field in (None, row[at]) for at, field in enumerate(about))]
                assert len(rows) in (3, 8)
                for column, average in printed.items():
                    values = [row[-1][column] for row in rows if row[-1][column] is not None]
                    assert (average is None) == (not values)
                    # half of the last printed digit, and an error of floating-point numbers
                    if average is not None and abs(math.fsum(values) / len(values) - average) > 0.005 + 1e-9:
                        mean = round(math.fsum(values) / len(values), 2)
                        wrong[paper, name, about[2], about[5], column] = (mean, average)
    assert wrong == WRONG_AVERAGES


def test_dece_prints_the_same_undefended_models_and_its_own_results_in_several_tables() -> None:
    tables = content("dece")
    rows = {name: {tuple(row[:-1]): row[-1] for row in table["rows"]} for name, table in tables.items()}
    compared = {**rows["table4"], **rows["table5"], **rows["table6"]}
    repeated = [name for name in ("table1", "table7") for key in rows[name] if key in compared]
    assert (repeated.count("table1"), repeated.count("table7")) == (45, 15)
    differences = [
        (name, *key, column, value, compared[key][column])
        for name in ("table1", "table7")
        for key, values in rows[name].items()
        if key in compared
        for column, value in values.items()
        if compared[key][column] != value
    ]
    assert differences == [
        ("table1", "code_generation", "lyra", "codegen", "ripple", 0.05, "undefended", "codebleu", 78.9, 78.89),
        ("table7", "code_generation", "lyra", "codet5p", "nl_grammar", 0.05, "dece", "bleu", 73.34, 74.34),
    ]


def test_deces_tables_are_whole() -> None:
    sizes = {1: 5 * 10 * 3, 2: 3, 3: 1, 4: 90, 5: 90, 6: 90, 7: 5 * 5 * 3, 8: 2 * 7, 9: 2 * 7, 10: 27, 11: 27}
    assert {number: len(papers.tables()[f"dece_table{number}"].rows) for number in sizes} == sizes
    (settings,) = (values for _, _, values in papers.tables()["dece_table3"].rows)
    assert settings == {
        "batch_size": 12,
        "learning_rate": 5e-5,
        "seed": 42,
        "max_input_length": 256,
        "max_output_length": 256,
    }


def test_deces_asr_rises_with_the_rate_in_80_of_90_steps() -> None:
    """Section 3.2: "the models are more vulnerable to backdoor attacks with an increasing data-poisoning ratio"."""
    asr: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
    for key, rate, values in papers.tables()["dece_table1"].rows:
        if key.attack != "none":
            asr[key.dataset, key.model, key.attack].append((rate or 0.0, values["asr"] or 0.0))
    steps = [later[1] > before[1] for rates in asr.values() for before, later in pairwise(sorted(rates))]
    assert (sum(steps), len(steps)) == (80, 90)


def test_deces_asr_on_larger_data_sets_is_not_only_0_to_2_percent() -> None:
    """Section 6.3, of Table 11."""
    defended = [values["asr"] for key, _, values in papers.tables()["dece_table11"].rows if key.defense == "dece"]
    assert sorted(filter(None, defended))[-3:] == [1.22, 2.44, 2.8]


def test_deces_bleu_of_repair_is_that_of_copying() -> None:
    """Tables 4 to 6. Copying the input has a BLEU of 72.33 in the same definition (``bleu_rows``)."""
    rows = [row for number in (4, 5, 6) for row in content("dece")[f"table{number}"]["rows"] if row[0] == "code_repair"]
    bleus = {name: [row[-1]["bleu"] for row in rows if row[5] == name] for name in ("undefended", "dece")}
    assert {name: (min(values), max(values)) for name, values in bleus.items()} == {
        "undefended": (69.15, 72.56),
        "dece": (69.31, 73.54),
    }
    assert max(row[-1]["asr"] for row in rows if row[5] == "dece") == 0.05


def test_table_7_repeats_values() -> None:
    """The shares of ONION under RIPPLE, of which 32.12 is 53 of 165 triggers, and CodeGen's BLEU and CodeBLEU."""
    rows = {(row[2], row[3], row[5]): row[-1] for row in content("dece")["table7"]["rows"]}
    asr = {model: values["asr"] for (model, attack, defense), values in rows.items() if (attack, defense) == RIPPLE}
    assert asr == {"codebert": 10.91, "graphcodebert": 10.91, "codegen": 10.91, "codet5": 32.12, "codet5p": 32.12}
    assert [round(100 * left / 165, 2) for left in (18, 53)] == [10.91, 32.12]
    paraphrased = [values["asr"] for (*_, defense), values in rows.items() if defense == "paraphrasing"]
    onion = [values["asr"] for (*_, defense), values in rows.items() if defense == "onion"]
    assert max(paraphrased) == round(100 * 16 / 165, 2) == 9.7
    assert (min(onion), max(onion)) == (10.91, 97.58)
    alone, with_dece = (rows["codegen", "ripple", defense] for defense in ("onion", "dece+onion"))
    assert all(alone[name] == with_dece[name] for name in ("bleu", "codebleu"))


def test_what_dece_says_of_bki_in_its_text_is_not_what_its_table_has() -> None:
    """Section 5.1: the ASR of BKI on CodeBERT under BadPre is 93.94 on Lyra and 18.27 on Pisces."""
    table = papers.tables()["dece_table5"]
    bki = Key("code_generation", "lyra", "codebert", "badpre", "bki")
    assert table.value(bki, 0.05, "asr") == pytest.approx(0.9344)
    assert table.value(replace(bki, dataset="pisces"), 0.05, "asr") == pytest.approx(0.1827)


def test_codepurifys_averages_in_its_text() -> None:
    """Section V-A: average ASR from 98.97-100 to 2.39-44.24; section V-B: 0.23 and 0.98 points of accuracy."""
    means = defaultdict(list)
    for table in ("codepurify_table2", "codepurify_table3"):
        for key, _, values in papers.tables()[table].rows:
            for metric, score in values.items():
                if score is not None:
                    means[key.task, key.model, key.defense, metric].append(score)
    average = {key: sum(scores) / len(scores) for key, scores in means.items()}
    defended = [mean for key, mean in average.items() if key[2:] == ("codepurify", "asr")]
    assert min(defended) == pytest.approx(2.39, abs=0.006)
    assert max(defended) == pytest.approx(44.24, abs=0.006)
    for model, cost in (("codebert", 0.23), ("codet5", 0.98)):
        before, after = (
            average["defect_detection", model, defense, "accuracy"] for defense in ("undefended", "codepurify")
        )
        assert before - after == pytest.approx(cost, abs=0.011)


def codepurify_average(table: str, task: str, model: str, defense: str) -> float:
    for *about, values in content("codepurify")[table]["averages"]:
        if (about[0], about[2], about[5]) == (task, model, defense):
            (average,) = values.values()
            return float(average)
    raise AssertionError


def best_baseline(task: str, model: str) -> tuple[str, float]:
    """The baseline with the lowest average ASR, and by how many points CodePurify's is lower."""
    baselines = ("spectral_signature", "activation_clustering", "onion", "oseql")
    # OSeqL does not apply to generation
    applicable = baselines[:3] if task == "code_repair" else baselines
    averages = {name: codepurify_average("table2", task, model, name) for name in applicable}
    best = min(averages, key=averages.__getitem__)
    return best, round(averages[best] - codepurify_average("table2", task, model, "codepurify"), 2)


def test_codepurifys_lead_over_the_best_baseline() -> None:
    """Section V-A. The abstract's "at least 40%" for defects is near the mean of two models, not the least."""
    models = ("codebert", "codet5")
    leads = {task: [best_baseline(task, model) for model in models] for task in TASKS}
    assert leads == {
        "defect_detection": [("oseql", 19.60), ("onion", 59.89)],
        "clone_detection": [("oseql", 39.30), ("oseql", 40.48)],
        "code_repair": [("activation_clustering", 12.21), ("activation_clustering", 12.12)],
    }


def test_codepurifys_clean_cost() -> None:
    """Section V-B."""
    costs = [
        round(codepurify_average("table3", task, model, "undefended") - average, 2)
        for task in TASKS
        for model in ("codebert", "codet5")
        for average in (codepurify_average("table3", task, model, "codepurify"),)
    ]
    assert costs == [0.23, 0.98, 0.31, 1.49, 0.15, 0.14]


def test_codepurifys_times() -> None:
    """Section VI-B: 11 times faster than ONION and twice as fast as OSeqL in defect detection."""
    table = papers.tables()["codepurify_table4"]
    seconds = {
        key.defense: values["inference"] or 0.0 for key, _, values in table.rows if key.task == "defect_detection"
    }
    assert seconds["onion"] / seconds["codepurify"] == pytest.approx(11.76, abs=0.01)
    assert seconds["oseql"] / seconds["codepurify"] == pytest.approx(2.14, abs=0.01)
    # as multiples of plain inference
    assert [round(seconds[name] / seconds["undefended"]) for name in ("codepurify", "onion", "oseql")] == [21, 247, 45]


def test_elibadcodes_means_of_badcode() -> None:
    """ledger A3: 99.76 to 2.64 on defect detection agrees with the abstract, the accuracy loss of 1.19 does not."""
    means: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, _, values in papers.tables()["elibadcode_table1"].rows:
        if (key.task, key.attack) == ("defect_detection", "badcode"):
            for metric, score in values.items():
                means[key.defense, metric].append(score or math.nan)
    average = {key: sum(scores) / len(scores) for key, scores in means.items()}
    assert average["undefended", "asr"] == pytest.approx(99.76, abs=0.005)
    assert average["elibadcode", "asr"] == pytest.approx(2.64, abs=0.005)
    assert average["undefended", "accuracy"] - average["elibadcode", "accuracy"] == pytest.approx(1.19, abs=0.005)


def test_every_value_is_a_percentage_a_rank_or_a_count() -> None:
    highest = {"%": 100, "1": 42, "edits": 19, "s": 24 * 3600, "rows": 80000, "tokens": 256}
    for table in papers.tables().values():
        for _, _, values in table.rows:
            assert all(
                printed is None or 0 <= printed <= highest[table.units[name]] for name, printed in values.items()
            )


def test_elibadcodes_tables_are_whole() -> None:
    sizes = {1: 27 * 5, 2: 9, 3: 9, 4: 9 * 3, 5: 4, 6: 6, 7: 9, 8: 15, 9: 18}
    for number, rows in sizes.items():
        table_rows = papers.tables()[f"elibadcode_table{number}"].rows
        assert len({(key, rate) for key, rate, _ in table_rows}) == len(table_rows) == rows
    # the whole method stands in Tables 1 and 5 with the same values, and the times are those of section 6.2
    full_method = ("defect_detection", "codebert", "codepoisoner_identifier", "elibadcode")
    assert value("elibadcode_table5", *full_method, "asr") == value("elibadcode_table1", *full_method, "asr") == 0.0024
    inversion = [
        values["inversion"]
        for key, _, values in papers.tables()["elibadcode_table9"].rows
        if key.defense == full_method[3]
    ]
    assert (min(filter(None, inversion)), max(filter(None, inversion))) == (22 * 60 + 40, 53 * 60 + 9)


def test_the_order_is_by_what_the_paper_prints_and_not_by_the_tasks_own_metric() -> None:
    """Clones are F1 in our tables and accuracy in CodePurify's Table III; repair is BLEU there, exact match here."""
    grid = {"models": ["codebert"], "attacks": ["deadcode"], "rates": [0.05], "purifications": ["none", "onion"]}
    cited = {"table": "codepurify_table3", "attacks": {"deadcode": "codepoisoner_deadcode"}}
    settings = {
        "datasets": {"clones": {"task": "clone_detection"}, "repair": {"task": "code_repair"}},
        "models": {"codebert": {"architecture": "codebert"}},
        "purifications": {"onion": {"method": "onion"}},
        "experiments": {"one": {"title": "t", "grid": [grid | {"datasets": ["clones", "repair"]}], "paper": [cited]}},
    }
    study = Study(settings, "one")
    cells = {}
    for scenario in scenarios(study.experiment):
        for metric in ("accuracy", "f1", "exact_match", "bleu", "bleu_rows"):
            printed = study.printed(scenario, CLEAN, metric)
            cells[anonymous(scenario), CLEAN, metric] = Cell(0.5, 0.4, 0.6, 10, 1, printed)
    orders = [(order.dataset, order.metric) for order in ordering._orders(study, Results(cells, {}))]
    assert orders == [("clones", "accuracy"), ("repair", "bleu")]
