"""Tables of a made-up run: which cells there are, and how they are written."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_run import make, settings

from codebackdoor import files
from codebackdoor.config.experiments import Experiment
from codebackdoor.config.products import inputs
from codebackdoor.config.scenario import Scenario
from codebackdoor.report import labels, render, stage
from codebackdoor.report.collect import Cell, collect
from codebackdoor.report.study import PrintedValue, Study, scenario_of, subset
from codebackdoor.report.tables.results import ResultTable, build


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    config = settings(tmp_path_factory.mktemp("run"))
    make(config)
    return config


def built(run: dict[str, Any], name: str = "defects") -> ResultTable:
    study = Study(run, name)
    return build(study, collect(study, inputs(study.experiment, "table", run["out"])))


def entry(table: ResultTable, attack: str, metric: str, column: str) -> Any:
    group = next(group for group in table.groups if group.scenario.attack == attack)
    return next(line for line in group.lines if line.metric == metric).entries.get(column)


def test_benign_and_undefended_columns_come_first(run: dict[str, Any]) -> None:
    table = built(run)
    assert table.columns[:3] == ("Baseline", "Benign", "Undefended")
    assert table.columns[3:] == ("Clean fine-tuning", "EliBadCode", "ONION", "CodePurify")
    for group in table.groups:
        assert "Benign" in render.present(table, group)
        assert ("Undefended" in render.present(table, group)) == (group.scenario.attack != "none")


def test_a_cell_is_what_the_scenario_measured(run: dict[str, Any]) -> None:
    scenario = Scenario("defects", "codebert", "by_name", "0.05", elimination="elibadcode")
    metrics = files.read_json(scenario.results(run["out"]) / "metrics.json")["testsets"]["by_name"]["metrics"]
    cell = entry(built(run), "by_name", "flip_rate", "EliBadCode")
    assert (cell.value, cell.low, cell.high) == tuple(metrics["flip_rate"][key] for key in ("value", "low", "high"))
    benign = files.read_json(Scenario("defects", "codebert").results(run["out"]) / "metrics.json")["testsets"]
    assert entry(built(run), "by_name", "asr", "Benign").value == benign["by_name"]["metrics"]["asr"]["value"]
    assert entry(built(run), "by_name", "accuracy", "Baseline").value == 0.672
    assert entry(built(run, "repair"), "deadcode", "bleu", "Baseline").value == 0.91


def test_the_papers_value_stands_beside_what_it_is_the_value_of(run: dict[str, Any]) -> None:
    table = built(run)
    assert entry(table, "by_name", "asr", "EliBadCode").paper == PrintedValue(0.0024, "EliBadCode, Table 1 at 2%", "a")
    assert entry(table, "by_name", "asr", "Clean fine-tuning").paper == PrintedValue(
        0.988, "EliBadCode, Table 2 at 2%", "b"
    )
    assert entry(table, "by_name", "accuracy", "Benign").paper == PrintedValue(0.6241, "EliBadCode, Table 4", "c")
    assert entry(table, "deadcode", "asr", "CodePurify").paper == PrintedValue(0.4709, "CodePurify, Table 2", "d")
    assert entry(table, "by_name", "asr", "CodePurify").paper is None
    assert [note.split(", on the paper")[0] for note in table.notes if note.startswith(("(a)", "(c)"))] == [
        "(a) EliBadCode, Table 1 at 2%",
        "(c) EliBadCode, Table 4",
    ]
    assert entry(table, "by_name_to_1", "asr", "EliBadCode").paper is None
    repair = built(run, "repair")
    assert entry(repair, "deadcode", "asr", "DeCE").paper == PrintedValue(0.0005, "DeCE, Table 5 at 1%", "a")
    assert entry(repair, "deadcode", "asr", "DeCE + CodePurify").paper is None


def test_a_variant_that_is_not_the_methods_own_has_no_paper_value(run: dict[str, Any]) -> None:
    study = Study(run | {"eliminations": {**run["eliminations"], "elibadcode": {"method": "other"}}}, "defects")
    scenario = Scenario("defects", "codebert", "by_name", "0.05", elimination="elibadcode")
    assert study.printed(scenario, "by_name", "asr") is None


def test_a_method_that_does_not_apply_is_a_dash_and_what_was_not_asked_is_empty(run: dict[str, Any]) -> None:
    dashes = [{"attack": "deadcode", "purification": "onion"}]
    experiments = {"defects": run["experiments"]["defects"] | {"dashes": dashes}}
    table = built(run | {"experiments": experiments})
    assert entry(table, "deadcode", "asr", "ONION") == "dash"
    assert entry(table, "by_name_to_1", "asr", "ONION") is None
    undefined = Cell(None, None, None, 0, 0)
    assert [render.text(cell, 1) for cell in ("dash", undefined, None)] == [labels.DASH, labels.DASH, ""]


def test_seeds_are_averaged_and_give_their_range(tmp_path: Path) -> None:
    config = settings(tmp_path, seeds=(1, 2, 3))
    make(config)
    scenario = Scenario("repair", "codet5", "deadcode", "0.05", objective="dece")
    values = [
        files.read_json(Scenario(**{**scenario.wildcards, "seed": seed}).results(tmp_path) / "metrics.json")[
            "testsets"
        ]["clean"]["metrics"]["exact_match"]["value"]
        for seed in "123"
    ]
    cell = entry(built(config, "repair"), "deadcode", "exact_match", "DeCE")
    assert cell.value == pytest.approx(sum(values) / 3)
    assert (cell.low, cell.high, cell.seeds, cell.n) == (min(values), max(values), 3, 1200)
    assert "means of 3 seeds" in built(config, "repair").notes[0]


def test_a_cell_of_other_seeds_than_its_table_says_so(tmp_path: Path) -> None:
    config = settings(tmp_path, seeds=(1, 2, 3))
    make(config)
    scenario = Scenario("repair", "codet5", "deadcode", "0.05", objective="dece")
    values = []
    for seed in "123":
        path = Scenario(**{**scenario.wildcards, "seed": seed}).results(tmp_path) / "metrics.json"
        measured = files.read_json(path)
        values.append(measured["testsets"]["deadcode"]["metrics"]["flip_rate"])
        measured["testsets"]["deadcode"]["metrics"]["floor"] |= {"value": None, "low": None, "high": None}
        if seed == "2":
            values[-1] |= {"value": None, "low": None, "high": None}
        files.write_json(path, measured)
    table = built(config, "repair")
    cell = entry(table, "deadcode", "flip_rate", "DeCE")
    assert (cell.seeds, cell.value) == (2, pytest.approx((values[0]["value"] + values[2]["value"]) / 2))
    assert render.text(cell, table.seeds).startswith(f"{labels.percent(cell.value)} ×2 [")
    assert entry(table, "deadcode", "floor", "DeCE").seeds == 0
    # the other cells and the baseline, which has none, are left as they were
    assert re.findall(r"×\w", render.as_markdown(table)) == ["×2", "×N"]
    assert render.as_latex(table).count(r"$\times$2 ") == 1
    assert "×N after a value: of N seeds, not 3; of one seed, the brackets hold its bootstrap interval." in table.notes
    scenario = Scenario(**{**scenario.wildcards, "seed": "3"})
    measured = files.read_json(scenario.results(tmp_path) / "metrics.json")
    measured["testsets"]["deadcode"]["metrics"]["flip_rate"] |= {"value": None, "low": None, "high": None}
    files.write_json(scenario.results(tmp_path) / "metrics.json", measured)
    cell = entry(built(config, "repair"), "deadcode", "flip_rate", "DeCE")
    assert (cell.seeds, cell.low, cell.high) == (1, values[0]["low"], values[0]["high"])


def test_csv_holds_every_number_once(run: dict[str, Any], tmp_path: Path) -> None:
    stage.table(run, "defects", inputs(Study(run, "defects").experiment, "table", run["out"]), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "defects.csv").read_text())))
    keys = [tuple(row[key] for key in render.CSV_COLUMNS[:12]) for row in rows]
    assert len(keys) == len(set(keys))
    rows_by_cell = {(row["attack"], row["column"], row["testset"], row["metric"]): row for row in rows}
    # what the wide forms leave out: the defended benign victim under a trigger
    assert rows_by_cell["none", "EliBadCode", "by_name", "flip_rate"]["value"] == "0.040000"
    asr = rows_by_cell["by_name", "EliBadCode", "by_name", "asr"]
    assert (asr["paper"], asr["paper_source"], asr["seeds"]) == ("0.0024", "EliBadCode, Table 1 at 2%", "1")


def test_markdown_and_latex_have_a_cell_for_every_column(run: dict[str, Any], tmp_path: Path) -> None:
    stage.table(run, "repair", inputs(Study(run, "repair").experiment, "table", run["out"]), tmp_path)
    table = built(run, "repair")
    markdown = (tmp_path / "repair.md").read_text()
    for block in markdown.split("## ")[1:]:
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) == 1
    rows = [line for line in (tmp_path / "repair.tex").read_text().splitlines() if line.endswith(r"\\")]
    for row in rows:
        assert row.count(" & ") == len(table.columns) or r"\multicolumn" in row
        assert "%" not in row.replace(r"\%", "")
        assert "_" not in row


def test_how_numbers_are_written() -> None:
    cell = Cell(0.67849, 0.65, 0.701, 400, 1, PrintedValue(0.6307, "EliBadCode, Table 1", "a"))
    assert render.text(cell, 1) == "67.8 [65.0, 70.1] (paper 63.1 a)"
    assert render.text(cell, 3) == "67.8 ×1 [65.0, 70.1] (paper 63.1 a)"
    assert labels.percent(-0.0001) == "0.0"
    assert [labels.seconds(value) for value in (4.21, 1360.2, 3599.9, 20869)] == ["4.2s", "22m40s", "1h00m", "5h48m"]
    assert labels.percent(1.0) == "100.0"
    assert (labels.rate(0.05), labels.rate(0.001)) == ("5%", "0.1%")
    assert labels.word("elibadcode_no_anchoring") == "EliBadCode (no anchoring)"
    assert labels.word("elibadcodes") == "elibadcodes"
    assert labels.word("elibadcode_extended") == "EliBadCode, extended"
    assert labels.word("elibadcode_extended_once") == "EliBadCode, extended (once)"
    assert labels.word("onion_training_rows") == "ONION (training rows)"
    assert labels.word("codepoisoner_func_to_1") == "CodePoisoner (func to 1)"
    assert labels.word("codepoisoner_deadcode_twice") == "CodePoisoner (dead code, twice)"
    assert labels.word("codepurify_joint_e") == "CodePurify-E (joint)"
    assert labels.attack(Scenario("d", "m", "badcode_mixed", "0.001")) == "BadCode (mixed) at 0.1%"


def test_a_setting_in_a_label_is_that_of_every_shipped_study() -> None:
    numbered = {
        name: (match[1], float(match[2]))
        for name, label in files.read_json(labels.VARIANTS).items()
        if (match := re.fullmatch(r".*, (threshold|alpha|epsilon) ([0-9.]+)", label))
    }
    assert len(numbered) > 10
    checked = set()
    for path in sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml")):
        for section in ("objectives", "purifications"):
            variants = yaml.safe_load(path.read_text(encoding="utf-8")).get(section) or {}
            for name in variants.keys() & numbered.keys():
                setting, value = numbered[name]
                assert variants[name].get(setting, value) == value, f"{path}: {name}"
                checked |= {name} if setting in variants[name] else set()
    assert checked == numbered.keys()


def terminal(run: dict[str, Any]) -> list[str]:
    """The blocks that the end of a run prints."""
    folder = Path(run["out"]) / "results/tables"
    for name in run["experiments"]:
        stage.table(run, name, inputs(Study(run, name).experiment, "table", run["out"]), folder)
    (folder / "removed.csv").write_text("left over from an earlier configuration\n")
    return stage.summary(run).split("\n\n")


def test_the_terminal_gets_every_victim_and_defense(run: dict[str, Any]) -> None:
    blocks = terminal(run)
    # a block for each attacked victim and each defended benign one, legend, findings, the two sizes, what is next
    assert len(blocks) == 6 + 1 + 1 + 2 + 1
    header, *sentences = blocks[7].splitlines()
    assert header == "What this shows:"
    assert sentences[0].startswith("  Undefended: a flip rate of ")
    undefended = next(line for line in blocks[1].splitlines() if line.startswith("Undefended"))
    assert undefended.split()[3] == "100.0"
    assert max(len(line) for block in blocks[:-1] for line in block.splitlines()) <= 110


def test_the_terminal_explains_its_columns_and_says_what_is_next(
    run: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    *tables, legend, _, _, _, following = terminal(run)
    heads = {head for block in tables for head in block.splitlines()[1].split()}
    explained = [line.split()[0] for line in legend.splitlines()[1:]]
    assert explained == ["ACC", "F1", "EM", "BLEU", "CodeBLEU", "ASR", "floor", "flip", "effect", "located", "touched"]
    assert heads == {*explained}
    victim = Scenario("defects", "codebert", "by_name", "0.05").victim(run["out"])
    scan = f"codebackdoor scan --task defect_detection {victim} --clean {run['out']}/data/defects/clean.jsonl"
    assert following.splitlines() == [f"next: open file://{run['out']}/report.html", f"      try  {scan}"]
    # in a checkout, the environment is not the shell's
    (tmp_path / ".env/bin").mkdir(parents=True)
    (tmp_path / ".env/bin/activate").touch()
    assert terminal(run)[-1].endswith(f"\n      try  source .env/bin/activate; {scan}")
    # nothing scans a victim that generates
    assert terminal(run | {"experiments": {"repair": run["experiments"]["repair"]}})[-1].count("\n") == 0


def test_only_the_settings_that_an_experiment_uses_are_handed_on(run: dict[str, Any]) -> None:
    part = subset(run, "repair")
    assert set(part["datasets"]) == {"repair"}
    assert set(part["attacks"]) == {"deadcode"}
    assert set(part["eliminations"]) == set()
    assert set(part["experiments"]) == {"repair"}
    assert built(part, "repair") == built(run, "repair")


def test_a_path_tells_its_scenario(tmp_path: Path) -> None:
    scenario = Scenario("d", "m", "a_b", "0.001", "12", "none", "dece", "e", "p")
    assert scenario_of(scenario.results(tmp_path / "seed3") / "metrics.json") == scenario
    assert scenario_of(scenario.victim(tmp_path) / "elimination.json") == Scenario(
        **{**scenario.wildcards, "purification": "none"}
    )


def test_experiments_of_the_settings_are_valid(run: dict[str, Any]) -> None:
    assert all(Experiment.model_validate(experiment).title for experiment in run["experiments"].values())
