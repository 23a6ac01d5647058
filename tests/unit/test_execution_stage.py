"""Predictions are executed with the tests of their rows, scored, and planned, also on the rows of another data set."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from test_execution import LIMITS, PROBLEMS

from codebackdoor import files, syntax
from codebackdoor.cli import main
from codebackdoor.config.loading import read_yaml, validate
from codebackdoor.dag import Dag
from codebackdoor.dag.fingerprint import closure
from codebackdoor.dag.parameters import STAGES
from codebackdoor.errors import UserError
from codebackdoor.evaluation.execution.settings import ExecutionSettings
from codebackdoor.evaluation.execution.stage import execute
from codebackdoor.evaluation.passing import estimates
from codebackdoor.evaluation.stage import score
from codebackdoor.seeding import numpy_generator
from codebackdoor.tasks.code_repair.settings import CodeRepair
from codebackdoor.tasks.testset import make_testset, make_trials
from codebackdoor.trials import Trial, read_trials, write_trials
from codebackdoor.types import Example

ROOT = Path(__file__).parents[2]
QUICK = ExecutionSettings(cpu=LIMITS.cpu, wall=LIMITS.wall, memory=LIMITS.memory)
SOURCES = {
    "right": "def f(x):\n    return x + 1\n",
    "wrong": "def f(x):\n    return x\n",
    "exit": "def f(x):\n    raise SystemExit\n",
    "other": "def g(x):\n    return x + 1\n",
}
needs_isolation = pytest.mark.skipif(bool(PROBLEMS["full"]), reason=PROBLEMS["full"])


def folder_of(path: Path, form: str = "raw") -> Path:
    """Predictions, rows and tests."""
    texts = {id_: text if form == "raw" else syntax.lex(text, "python") for id_, text in SOURCES.items()}
    if form == "lexed":
        texts["unlexable"] = "<dedent> x"
    files.write_rows(
        path / "predictions.clean.jsonl", [{"id": id_, "confidence": 1.0, "text": text} for id_, text in texts.items()]
    )
    files.write_examples(
        path / "test.jsonl",
        [Example(id_, "python", texts["right"], target=texts["right"]) for id_ in texts],
    )
    write_trials(path / "tests.jsonl", [Trial(id_, "f", ("assert f(1) == 2",)) for id_ in texts])
    return path


@needs_isolation
@pytest.mark.parametrize("form", ["raw", "lexed"])
def test_outputs_in_both_text_forms_are_executed_and_scored(tmp_path: Path, form: Any) -> None:
    folder = folder_of(tmp_path, form)
    predictions, out = folder / "predictions.clean.jsonl", folder / "executed.clean.jsonl"
    execute(QUICK, predictions, folder / "tests.jsonl", form, out, workers=2)
    outcomes = {row["id"]: row["outcome"] for _, row in files.read_rows(out)}
    expected = {"right": "passed", "wrong": "failed", "exit": "exited", "other": "undefined"}
    assert outcomes == expected | ({"unlexable": "syntax"} if form == "lexed" else {})
    dataset = CodeRepair(task="code_repair", text_form=form)
    score(dataset, {"clean": folder / "test.jsonl"}, folder, folder / "out", seed=1)
    metrics = json.loads((folder / "out" / "metrics.json").read_text())["testsets"]["clean"]["metrics"]
    assert metrics["pass_1"]["value"] == pytest.approx(1 / len(outcomes))
    assert metrics["pass_1"]["n"] == len(outcomes)
    assert metrics["pass_1"]["low"] <= metrics["pass_1"]["value"] <= metrics["pass_1"]["high"]
    out.unlink()
    score(dataset, {"clean": folder / "test.jsonl"}, folder, folder / "out", seed=1)
    assert "pass_1" not in (folder / "out" / "metrics.json").read_text()


def test_the_interval_of_pass_1_is_that_of_a_share() -> None:
    """Against the normal approximation of a binomial share, at 400 rows."""
    rows = [Example(str(index), "python", "") for index in range(400)]
    outcomes = {row.id: "passed" if int(row.id) % 4 == 0 else "failed" for row in rows}
    estimate = estimates(rows, outcomes, numpy_generator(1, "score", "clean"))["pass_1"]
    assert (estimate.value, estimate.n) == (0.25, 400)
    half = 1.96 * (0.25 * 0.75 / 400) ** 0.5
    assert estimate.low == pytest.approx(0.25 - half, abs=0.01)
    assert estimate.high == pytest.approx(0.25 + half, abs=0.01)


def test_a_row_without_tests_or_without_an_outcome_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    write_trials(folder / "few.jsonl", list(read_trials(folder / "tests.jsonl").values())[:2])
    out = folder / "executed.clean.jsonl"
    with pytest.raises(UserError, match="row 'exit' has no tests"):
        execute(QUICK, folder / "predictions.clean.jsonl", folder / "few.jsonl", "raw", out)
    assert not out.exists()
    files.write_rows(out, [{"id": "right", "outcome": "passed"}])
    with pytest.raises(UserError, match=r"executed\.clean\.jsonl: row 'wrong' was not executed"):
        score(CodeRepair(task="code_repair"), {"clean": folder / "test.jsonl"}, folder, folder / "out", seed=1)
    with pytest.raises(UserError, match=r"name the file predictions\.TESTSET\.jsonl"):
        execute(QUICK, folder / "test.jsonl", folder / "tests.jsonl", "raw", out)


@needs_isolation
def test_the_command_records_the_isolation(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    arguments = ["execute", str(folder / "predictions.clean.jsonl"), "--tests", str(folder / "tests.jsonl")]
    arguments += ["--form", "raw", "--out", str(folder / "executed.clean.jsonl"), "--settings", '{"wall": 20}']
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    provenance = json.loads((folder / "execute" / "provenance.json").read_text())
    assert provenance["settings"]["settings"]["wall"] == 20
    assert provenance["isolation"] == "full"


def wildcards(**values: str) -> Any:
    defaults = {"dataset": "away", "model": "codet5", "attack": "none", "rate": "0", "seed": "1", "filtering": "none"}
    names = defaults | {"objective": "cross_entropy", "elimination": "none", "purification": "none"} | values
    return type("Wildcards", (SimpleNamespace,), {"items": lambda self: vars(self).items()})(**names)


def study(folder: Path, **away: Any) -> dict[str, Any]:
    """Victims of the data set `home`, and a data set `away` on which they predict, too."""
    for name in ("home", "away"):
        for split in ("train", "valid", "test") if name == "home" else ("test",):
            rows = [Example(f"{split}{index}", "python", f"x = {index}", target="x = 1") for index in range(20)]
            files.write_examples(folder / name / f"{split}.jsonl", rows)
    write_trials(folder / "away" / "tests.jsonl", [Trial(f"test{index}", "f", ("assert f(1)",)) for index in range(25)])
    settings = read_yaml(ROOT / "config.yaml")
    common = {"task": "code_repair", "source": "jsonl", "text_form": "raw"}
    settings["datasets"] |= {
        "home": {**common, "path": str(folder / "home")},
        "away": {**common, "path": str(folder / "away"), "trained_on": "home", **away},
    }
    grid = {"datasets": ["home", "away"], "models": ["codet5"], "attacks": ["codepoisoner_deadcode"]}
    settings["experiments"] = {"further": {"title": "Further", "grid": [{**grid, "purifications": ["codepurify"]}]}}
    return settings


def test_victims_of_another_data_set_predict_on_its_rows(tmp_path: Path) -> None:
    dag = Dag(validate(study(tmp_path)))
    out, attacked = dag.paths.out, {"attack": "codepoisoner_deadcode", "rate": "0.05"}
    inputs = dag.evaluate.predict.inputs(wildcards(**attacked))
    assert (
        f"{out}/models/home/codet5/codepoisoner_deadcode-0.05/seed1/none/cross_entropy/none/config.json"
        in inputs["victim"]
    )
    assert inputs["testsets"] == [
        f"{out}/data/away/test.jsonl",
        f"{out}/data/away/codepoisoner_deadcode-0.05/seed1/test.jsonl",
    ]
    purified = dag.defend.purify.inputs(wildcards(purification="codepurify", **attacked))
    assert purified["valid"] == f"{out}/data/home/valid.jsonl"
    assert dag.poison.trigger.inputs(wildcards(**attacked)) == {
        "train": f"{out}/data/home/train.jsonl",
        "rows": f"{out}/data/away/test.jsonl",
    }
    assert dag.data.testset.inputs(wildcards())["train"] == f"{out}/data/home/train.jsonl"
    assert dag.testsets.datasets(has_victims=False) == "away"
    assert "away" not in dag.testsets.datasets(has_victims=True).split("|")
    sizes = dag.report.inputs(SimpleNamespace(items=lambda: (), experiment="further"))["sizes"]
    assert sizes
    assert not any("models/away" in path for path in sizes)


def test_only_outputs_for_rows_with_tests_are_executed(tmp_path: Path) -> None:
    dag = Dag(validate(study(tmp_path)))
    results = f"{dag.paths.out}/results/{{}}/codet5/none-0/seed1/none/cross_entropy/none/none"
    away, home = (dag.evaluate.score.inputs(wildcards(dataset=name))["predictions"] for name in ("away", "home"))
    assert f"{results.format('away')}/executed.clean.jsonl" in away
    assert home == [f"{results.format('home')}/predictions.{name}.jsonl" for name in ("clean", "codepoisoner_deadcode")]
    assert dag.evaluate.execute.inputs(wildcards()) == {
        "predictions": f"{results.format('away')}/predictions.clean.jsonl",
        "tests": f"{dag.paths.out}/data/away/tests.jsonl",
    }


@pytest.mark.parametrize(
    ("away", "message"),
    [
        ({"trained_on": "hom"}, "'hom' is not declared; did you mean 'home'"),
        ({"trained_on": "away"}, "'away' has no victims of its own"),
        ({"text_form": "lexed"}, "victims of 'home' have the text_form raw, not lexed"),
        ({"trained_on": "defects"}, "victims of 'defects' have the task defect_detection, not code_repair"),
        ({"source": "pypi", "path": None}, "trained_on: only test rows are read"),
        ({"resplit": True}, "trained_on: only test rows are read"),
    ],
)
def test_a_data_set_that_the_victims_cannot_read_is_refused(tmp_path: Path, away: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(study(tmp_path, **away))


def test_a_figure_of_victims_needs_victims(tmp_path: Path) -> None:
    settings = study(tmp_path)
    settings["experiments"]["further"]["figures"] = ["epochs"]
    with pytest.raises(UserError, match="epochs looks at victims, and 'away' has none of its own"):
        validate(settings)


def test_an_existing_study_keeps_its_parameters(tmp_path: Path) -> None:
    """Neither the new key nor a further data set changes what the jobs of another data set get."""
    before, after = Dag(validate(read_yaml(ROOT / "config.yaml"))), Dag(validate(study(tmp_path)))
    for name in ("defects", "repair"):
        assert before.parameters.settings("dataset", name) == after.parameters.settings("dataset", name)
        assert "trained_on" not in before.parameters.settings("dataset", name)


def test_no_victim_and_no_defense_reads_the_tests() -> None:
    stages = set(STAGES) - {"testset", "trials", "execute"}
    for stage in stages:
        assert "codebackdoor.trials" not in closure([f"codebackdoor.{STAGES[stage]}"]), stage


def test_test_rows_alone_become_a_data_set(tmp_path: Path) -> None:
    settings = validate(study(tmp_path)).datasets["away"]
    out = tmp_path / "out"
    make_testset(settings, "away", tmp_path / "home" / "train.jsonl", None, None, out, 1)
    rows = files.read_examples(out / "test.jsonl")
    assert {row.id for row in rows} == {f"test{index}" for index in range(20)}
    card = files.read_json(out / "card.json")
    assert {split: facts["rows"] for split, facts in card["splits"].items()} == {
        "train": 0,
        "valid": 0,
        "clean": 0,
        "test": 20,
    }
    make_trials(settings, "away", out / "test.jsonl", None, out / "tests.jsonl")
    assert list(read_trials(out / "tests.jsonl")) == [row.id for row in rows]
    files.write_examples(out / "more.jsonl", [*rows, Example("new", "python", "x = 1", target="x = 1")])
    with pytest.raises(UserError, match="row 'new' of the test split has no tests"):
        make_trials(settings, "away", out / "more.jsonl", None, out / "tests.jsonl")


def test_a_data_set_without_a_test_row_says_why(tmp_path: Path) -> None:
    train, out = tmp_path / "home" / "train.jsonl", tmp_path / "out"
    settings = validate(study(tmp_path, max_tokens=1)).datasets["away"]
    with pytest.raises(UserError, match=r"left for test \(20 too_long\); raise max_tokens or bring more data"):
        make_testset(settings, "away", train, None, None, out, 1)
