"""`import codebackdoor`: the functions answer as the commands do, and the examples run."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import planted
import pytest
from made_up_run import make, settings

import codebackdoor
from codebackdoor.errors import UserError
from codebackdoor.report import export
from codebackdoor.victims.victim import save_victim

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run with invented numbers."""
    out = tmp_path / "run"
    make(settings(out))
    export.collect(sorted(out.glob("results/**/metrics.json")), out / "results")
    return out


def test_scan_answers_as_the_command_does(models: Path) -> None:
    samples, calibration = models / "clean.jsonl", models / "calibration.json"
    result = codebackdoor.scan(
        models / "backdoored", samples, text_form="lexed", settings=planted.SETTINGS, calibration=str(calibration)
    )
    assert result.backdoored is True
    assert str(result).startswith("backdoored\n  trigger ")
    command = json.loads((models / "scan.json").read_text())
    assert json.loads(json.dumps(result.to_json())) | {"seconds": 0} == command | {"seconds": 0}


def test_clean_writes_an_edited_model_that_a_scan_calls_clean(models: Path, tmp_path: Path) -> None:
    samples, out = models / "clean.jsonl", tmp_path / "cleaned"
    options = {"text_form": "lexed", "calibration": str(models / "calibration.json")}
    result = codebackdoor.clean(models / "backdoored", samples, out, settings=planted.SETTINGS, **options)
    assert result.out == out
    assert result.cost is not None
    assert result.cost.is_clean
    assert str(result).endswith(f"written to {out}")
    assert codebackdoor.scan(out, samples, settings=planted.SETTINGS, **options).backdoored is False
    benign = codebackdoor.clean(models / "benign11", samples, tmp_path / "none", **options)
    assert (benign.out, benign.cost, (tmp_path / "none").exists()) == (None, None, False)


def test_mistakes_are_named(models: Path) -> None:
    with pytest.raises(TypeError, match="unknown option 'calibrations'; did you mean 'calibration'"):
        codebackdoor.scan(models / "backdoored", models / "clean.jsonl", calibrations="x")  # type: ignore[call-arg]
    with pytest.raises(UserError, match="models for the task 'code_repair' cannot be scanned"):
        codebackdoor.scan(models / "backdoored", models / "clean.jsonl", task="code_repair")
    with pytest.raises(AttributeError, match="no attribute 'scn'"):
        codebackdoor.scn  # noqa: B018


def test_a_loaded_run_has_every_metric_with_its_interval(run_folder: Path) -> None:
    run = codebackdoor.load_run(run_folder)
    with (run_folder / "results/metrics.csv").open() as stream:
        assert len(run.metrics) == len(list(csv.DictReader(stream)))
    (flip_rate,) = run.select(
        "flip_rate", attack="by_name", elimination="none", purification="none", testset="by_name", dataset="defects"
    )
    written = json.loads((flip_rate.scenario.results(run_folder) / "metrics.json").read_text())
    expected = written["testsets"]["by_name"]["metrics"]["flip_rate"]
    assert (flip_rate.value, flip_rate.low, flip_rate.high, flip_rate.rows) == tuple(
        expected[key] for key in ("value", "low", "high", "n")
    )
    assert run.victim(flip_rate.scenario).is_dir()
    with pytest.raises(UserError, match="a scenario has no 'defence'"):
        list(run.select(defence="none"))


def test_what_is_no_run_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the folder of a finished run"):
        codebackdoor.load_run(tmp_path / "absent")
    metrics = run_folder / "results/metrics.csv"
    metrics.write_text(metrics.read_text() + "defects,codebert\n")
    with pytest.raises(UserError, match="not a row of the metrics"):
        codebackdoor.load_run(run_folder)
    metrics.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not the metrics of a run"):
        codebackdoor.load_run(run_folder)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, codebackdoor; sys.exit(bool({'torch', 'transformers', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_examples_run(models: Path, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # a folder of this project says how it reads code
    save_victim(planted.victim(1), tmp_path / "own", {"task": "defect_detection", "backdoored": True, "attack": "x"})
    scan = runpy.run_path(str(EXAMPLES / "scan_checkpoint.py"))["main"]
    files = (tmp_path / "own", models / "clean.jsonl", tmp_path / "new", models / "calibration.json")
    scan(*map(str, files))
    assert (tmp_path / "new" / "config.json").is_file()
    assert "backdoored" in capsys.readouterr().out
    source = tmp_path / "source.py"
    source.write_text("def load_init(size, count):\n    load = size - count\n    return load.size(count)\n")
    sanitize = runpy.run_path(str(EXAMPLES / "sanitize_source.py"))["main"]
    sanitize(str(tmp_path / "own"), str(models / "clean.jsonl"), str(tmp_path / "sanitized"), str(source))
    assert "suspicious: 1 of 1 input" in capsys.readouterr().out
    assert "load_init" not in (tmp_path / "sanitized" / "source.py").read_text()
    plot = runpy.run_path(str(EXAMPLES / "plot_metrics.py"))["main"]
    plot(str(run_folder), str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    # tests/unit/test_dece_loss.py runs dece_loss.py
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "dece_loss.py",
        "scan_checkpoint.py",
        "sanitize_source.py",
        "plot_metrics.py",
    }


@pytest.mark.parametrize("name", ["scan_checkpoint", "sanitize_source", "plot_metrics"])
def test_an_example_without_arguments_prints_its_usage(name: str) -> None:
    result = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f"python examples/{name}.py" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_page_on_python_functions_runs(
    models: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (EXAMPLES.parent / "docs/python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    shutil.copytree(run_folder, tmp_path / "runs/local")
    (victim,) = re.findall(r'^victim = "(.*)"$', blocks[0], re.MULTILINE)
    (tmp_path / victim).parent.mkdir(parents=True)
    save_victim(planted.victim(1), tmp_path / victim, {"task": "defect_detection", "backdoored": True, "attack": "x"})
    for name in ("clean", "valid"):
        (tmp_path / "runs/local/data/defects").mkdir(parents=True, exist_ok=True)
        shutil.copy(models / "clean.jsonl", tmp_path / f"runs/local/data/defects/{name}.jsonl")
    # the shipped calibration is for the victims of the default study
    for function in (codebackdoor.scan, codebackdoor.clean):
        calibrated = partial(function, calibration=str(models / "calibration.json"))
        monkeypatch.setattr(codebackdoor, function.__name__, calibrated, raising=False)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), namespace)  # noqa: S102
    printed = capsys.readouterr().out
    assert printed.startswith("True ")
    assert (tmp_path / "cleaned/config.json").is_file()
    for name in ("scan", "clean", "sanitize", "load_run", "DeCELoss"):
        assert f"## {name}\n" in page
