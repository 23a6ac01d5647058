"""The environment is pinned once and said thrice; a wrong Python gets one sentence; DVC leaves git's files alone."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from test_imports import imports

from codebackdoor.config.loading import load
from codebackdoor.dag import Dag
from codebackdoor.errors import EXTRAS, message

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "envs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins() -> dict[str, str]:
    lines = (ENVS / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=]", requirement)[0].lower() for requirement in requirements}


def test_all_dependencies_are_pinned() -> None:
    pinned = {name.lower().replace("_", "-") for name in pins()}
    extras = PROJECT["project"]["optional-dependencies"]
    for requirements in (PROJECT["project"]["dependencies"], extras["study"], PROJECT["dependency-groups"]["dev"]):
        assert names(requirements) <= pinned
    for extra in ("slurm", "dvc", "fetch"):
        assert names(extras[extra]) <= names((ENVS / f"requirements-{extra}.txt").read_text().splitlines())
    assert pins()["torch"] == "2.13.0"


def test_a_missing_module_names_its_extra() -> None:
    """Every third-party module that the package imports is a dependency, or its extra is named when it is missing."""
    modules = {name.partition(".")[0] for path in ROOT.glob("workflow/codebackdoor/**/*.py") for name in imports(path)}
    third_party = modules - set(sys.stdlib_module_names) - {"codebackdoor"}
    distributions = packages_distributions()
    provided = names(PROJECT["project"]["dependencies"])
    for module in third_party:
        known_as = {name.lower().replace("_", "-") for name in distributions.get(module, [module])} | {module}
        core = {"pydantic-core"} | provided  # pydantic's own half
        extra = PROJECT["project"]["optional-dependencies"].get(EXTRAS.get(module, ""), [])
        assert known_as & core or known_as & names(extra), module
    for module, extra in EXTRAS.items():
        error = ModuleNotFoundError(f"No module named '{module}'", name=f"{module}.part")
        assert (
            message(error)
            == f"this command needs {module}, which is not installed: pip install 'codebackdoor[{extra}]'"
        )
    assert message(ModuleNotFoundError("No module named 'x'", name="x")) is None


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
    plan = subprocess.run(["make", "plan", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert plan.returncode != 0
    errors = [line for line in plan.stderr.splitlines() if not line.startswith("make")]
    assert errors == [
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
        (("fetch",), "say what to fetch: make fetch SCALE=paper"),
        (("push", "CONFIG=a.yaml b.yaml"), "only a single configuration can be versioned: "),
        (("pull", "CONFIG=a.yaml b.yaml"), "only a single configuration can be versioned: "),
    ],
    ids=["fetch", "push", "pull"],
)
def test_what_was_asked_for_is_checked_before_anything_is_installed(arguments: tuple[str, ...], message: str) -> None:
    # a dry run names whatever would be installed before the check
    command = ["make", "--no-print-directory", "--dry-run", *arguments]
    dry_run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert dry_run.returncode != 0
    assert message in dry_run.stderr
    assert dry_run.stdout == ""


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
