"""The environment is pinned once and said thrice; a wrong Python gets one sentence; DVC leaves git's files alone."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from codebackdoor.config.loading import load
from codebackdoor.dag import Dag

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "envs"


def pins() -> dict[str, str]:
    lines = (ENVS / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def names(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [re.split(r"[<>=]", line)[0] for line in lines if line]


def test_everything_asked_for_is_pinned() -> None:
    found = {name.lower().replace("_", "-") for name in pins()}
    for source in ("requirements.in", "requirements-dev.in"):
        assert {name.lower() for name in names(ENVS / source)} <= found
    assert pins()["torch"] == "2.13.0"


def test_conda_gets_the_same_pins() -> None:
    environment = yaml.safe_load((ENVS / "environment.yaml").read_text())
    assert environment["dependencies"][-1] == {"pip": [f"{name}=={version}" for name, version in pins().items()]}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_wrong_python_gets_one_sentence(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, tmp_path / name)
    shutil.copytree(ENVS, tmp_path / "envs")
    old = tmp_path / "python3.9"
    pretend = "import sys; sys.version_info = (3, 9, 1, 'final', 0); sys.version = '3.9.1 (main)';"
    old.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{pretend} $1"\n')
    old.chmod(0o755)
    found = subprocess.run(["make", "plan", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode != 0
    said = [line for line in found.stderr.splitlines() if not line.startswith("make")]
    assert said == [
        f"codebackdoor needs Python 3.11 or 3.12, and {old} is 3.9.1: name another with make PYTHON=/path/to/python3.12"
    ]
    assert not (tmp_path / ".env").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_folders_of_any_name_reach_the_commands_whole(tmp_path: Path) -> None:
    shutil.copy2(ROOT / "Makefile", tmp_path / "Makefile")
    folder = "/a b/c'd"

    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            "make",
            "--no-print-directory",
            "--old-file=.env/.complete",
            "--old-file=.env/.fetch",
            "--old-file=.env/.dvc",
            *arguments,
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    words = [
        shlex.split(line) for line in make("--dry-run", "fetch", "SCALE=paper", f"MIRROR={folder}").stdout.splitlines()
    ]
    assert ["codebackdoor", "mirror", "config.yaml", "configs/paper.yaml", "--into", folder] in words
    assert f"mirror={folder}" in shlex.split(make("--dry-run", "run", f"MIRROR={folder}").stdout.splitlines()[0])
    stage = "configs/versions/dvc.yaml:run@paper"
    assert f"dvc pull {stage}" in make("--dry-run", "pull", "CONFIG=configs/paper.yaml").stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fetch",), "say for what: make fetch SCALE=paper"),
        (("push", "CONFIG=a.yaml b.yaml"), "a version is of one configuration: "),
        (("pull", "CONFIG=a.yaml b.yaml"), "a version is of one configuration: "),
    ],
    ids=["fetch", "push", "pull"],
)
def test_what_was_asked_for_is_checked_before_anything_is_installed(arguments: tuple[str, ...], message: str) -> None:
    # a dry run names whatever would be installed before the check
    command = ["make", "--no-print-directory", "--dry-run", *arguments]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode != 0
    assert message in found.stderr
    assert found.stdout == ""


def test_dvc_versions_each_scale_whole_and_never_the_base_models() -> None:
    default = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    by_scale = yaml.safe_load((ROOT / "configs/versions/dvc.yaml").read_text())["stages"]["run"]
    stages = {(): default["stages"]["local"]} | {
        (ROOT / f"configs/{name}.yaml",): yaml.safe_load(yaml.safe_dump(by_scale["do"]).replace("${item}", name))
        for name in by_scale["foreach"]
    }
    for overlay, stage in stages.items():
        assert stage["outs"] == [{load([ROOT / "config.yaml", *overlay]).out: {"persist": True}}]
    # what an overlay adds to the default study's own folder is versioned with that
    local = load([ROOT / "config.yaml"]).out
    scales = {path for path in (ROOT / "configs").glob("*.yaml") if load([ROOT / "config.yaml", path]).out != local}
    assert {path for overlay in stages for path in overlay} == scales
    # provenance.json holds times and hosts: no metric
    assert default["metrics"] == ["runs/local/results/metrics.json"]
    assert set(default["plots"]) <= set(Dag(load([ROOT / "config.yaml"])).targets())
