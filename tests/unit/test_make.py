"""What `make` does outside of Snakemake: it builds the environment, one at a time, and removes one run."""

from __future__ import annotations

import json
import math
import os
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = (sys.executable, "envs/build.py", ".env")
#: In place of pip, so that no network is asked: it writes down what it was told, and takes its time.
PIP = """#!/bin/sh
echo "$*" >> pip.log
sleep "${PIP_SECONDS:-0}"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files that `make` reads, and an environment whose packages are installed."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "envs", tmp_path / "envs")
    pip = tmp_path / ".env/bin/pip"
    pip.parent.mkdir(parents=True)
    pip.write_text(PIP)
    pip.chmod(0o755)
    (tmp_path / ".env/.packages").touch()
    return tmp_path


def call(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def pip_calls(project: Path) -> list[str]:
    log = project / "pip.log"
    return [line.split()[-1] for line in log.read_text().splitlines()] if log.exists() else []


def at_work(project: Path) -> None:
    (project / ".snakemake/locks").mkdir(parents=True)
    (project / ".snakemake/locks/0.input.lock").touch()


def test_what_is_installed_is_not_installed_again(project: Path) -> None:
    for _ in range(2):
        assert call(project, *BUILD).returncode == 0
    assert pip_calls(project) == [str(project)]
    for _ in range(2):
        assert call(project, *BUILD, "--extra", "slurm").returncode == 0
    assert pip_calls(project) == [str(project), str(project / "envs/requirements-slurm.txt")]
    os.utime(project / "envs/requirements-slurm.txt")
    os.utime(project / "pyproject.toml")
    assert call(project, *BUILD).returncode == 0
    assert call(project, *BUILD, "--extra", "slurm").returncode == 0
    assert len(pip_calls(project)) == 4


def test_uv_installs_with_the_indexes_of_pip_and_pip_where_uv_fails(project: Path) -> None:
    (project / ".env/bin/pip").write_text(PIP.replace("sleep", '[ "$1" = config ] && cat pip.conf\nsleep'))
    settings = "global.extra-index-url='https://a.example/x https://b.example'\n:env:.find-links='/wheels'\n"
    (project / "pip.conf").write_text(f"global.timeout='9'\n{settings}")
    uv = project / ".env/bin/uv"
    uv.write_text('#!/bin/sh\necho "$*" >> uv.log\nexit "${UV_STATUS:-0}"\n')
    uv.chmod(0o755)
    assert call(project, *BUILD).returncode == 0
    (command,) = (project / "uv.log").read_text().splitlines()
    indexes = "--extra-index-url https://a.example/x --extra-index-url https://b.example --find-links /wheels"
    assert f" {indexes} --index-strategy unsafe-best-match " in command
    assert command.endswith(f"--editable {project}")
    # nothing but its configuration was asked of pip
    assert pip_calls(project) == ["list"]
    os.utime(project / "pyproject.toml")
    failed = subprocess.run(
        BUILD, cwd=project, env=os.environ | {"UV_STATUS": "1"}, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 0
    assert failed.stderr.splitlines()[-1] == "uv could not install this: trying pip"
    assert pip_calls(project)[-1] == str(project)


def test_every_installation_is_announced(project: Path) -> None:
    assert call(project, *BUILD).stderr == "installing the project itself\n"
    assert call(project, *BUILD).stderr == ""
    extra = call(project, *BUILD, "--extra", "slurm")
    assert extra.stderr == "installing what only some commands need: requirements-slurm.txt\n"


def test_what_takes_minutes_is_announced_with_its_measured_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build = runpy.run_path(str(ROOT / "envs/build.py"))["build"]
    # neither a virtual environment nor packages, so that no network is asked
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: (tmp_path / ".env").mkdir(exist_ok=True))
    build(tmp_path / ".env")
    measured = json.loads((ROOT / "workflow/codebackdoor/costs/local.json").read_text())["environment"]
    cost = f"about {measured['megabytes'] / 1000:.1f} GB and {math.ceil(measured['seconds'] / 60)} minutes"
    announced, *_ = capsys.readouterr().err.splitlines()
    assert announced == (
        f"building the environment in {tmp_path / '.env'} ({cost}; without CPU wheels of torch several GB more, unless "
        "you stop and run export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu)"
    )


def test_what_failed_is_said_and_tried_again(project: Path) -> None:
    pip = project / ".env/bin/pip"
    pip.write_text("#!/bin/sh\nexit 1\n")
    failed = call(project, *BUILD)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("the environment could not be built: `.env/bin/pip install")
    pip.write_text(PIP)
    assert call(project, *BUILD).returncode == 0
    assert pip_calls(project) == [str(project)]


@pytest.mark.parametrize("options", [(), ("--extra", "dvc")], ids=["project", "extra"])
def test_two_at_once_wait_for_each_other_and_install_once(project: Path, options: tuple[str, ...]) -> None:
    if options:
        assert call(project, *BUILD).returncode == 0
    before = len(pip_calls(project))
    slow = os.environ | {"PIP_SECONDS": "1"}
    first = subprocess.Popen([*BUILD, *options], cwd=project, env=slow)
    end = time.monotonic() + 30
    while len(pip_calls(project)) == before:
        assert time.monotonic() < end
        time.sleep(0.02)
    second = call(project, *BUILD, *options)
    assert first.wait() == second.returncode == 0
    assert second.stderr == "another make builds the environment: waiting for it\n"
    assert len(pip_calls(project)) == before + 1


@pytest.mark.parametrize("changed", ["envs/requirements.txt", "pyproject.toml"])
def test_no_environment_is_taken_from_a_run_that_is_at_work(project: Path, changed: str) -> None:
    assert call(project, *BUILD).returncode == 0
    at_work(project)
    assert call(project, *BUILD).returncode == 0
    (project / changed).touch()
    refused = call(project, *BUILD)
    assert refused.returncode == 1
    assert refused.stderr.startswith("the environment must be rebuilt, but a run in this folder still uses it")
    assert len(refused.stderr.splitlines()) == 1
    assert (project / ".env/bin/pip").is_file()
    assert pip_calls(project) == [str(project)]


def test_everything_is_installed_under_the_lock() -> None:
    assert "pip install" not in (ROOT / "Makefile").read_text()


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def runs(project: Path) -> Path:
    for name in ("local", "smoke"):
        (project / "runs" / name / "results").mkdir(parents=True)
    (project / "mirror").mkdir()
    return project


def everything(project: Path) -> set[str]:
    return {str(path.relative_to(project)) for path in project.rglob("*")}


@needs_make
def test_clean_removes_one_run_and_nothing_else(runs: Path) -> None:
    before = everything(runs)
    cleaned = call(runs, "make", "clean", "SCALE=smoke")
    assert cleaned.returncode == 0, cleaned.stderr
    assert before - everything(runs) == {"runs/smoke", "runs/smoke/results"}
    # it needs no environment, and builds none
    assert pip_calls(runs) == []


@needs_make
@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ("", "say which run"),
        (".", "say which run"),
        ("..", "say which run"),
        ("../mirror", "say which run"),
        ("local/results", "say which run"),
        ("/", "say which run"),
        (".hidden", "say which run"),
        ("locl", "there is no runs/locl"),
        ("*", "there is no runs/*"),
        ("local smoke", "there is no runs/local smoke"),
    ],
)
def test_clean_refuses_what_is_no_run(scale: str, message: str, runs: Path) -> None:
    before = everything(runs)
    refused = call(runs, "make", "clean", f"SCALE={scale}")
    assert refused.returncode != 0
    assert message in refused.stderr
    assert everything(runs) == before


@needs_make
def test_clean_takes_nothing_from_a_run_that_is_at_work(runs: Path) -> None:
    at_work(runs)
    before = everything(runs)
    refused = call(runs, "make", "clean", "SCALE=local")
    assert refused.returncode != 0
    assert refused.stderr.startswith("a run is active in this folder: wait for it; if it was killed: make settle\n")
    assert everything(runs) == before
