"""A wheel, installed with the core dependencies alone, scans, cleans and names its extras, away from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import planted
import pytest
from packaging.requirements import Requirement

from codebackdoor.files import write_examples

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def closure(requirements: list[str]) -> set[str]:
    """Names of the installed distributions that these requirements bring, with all that they need."""
    names: set[str] = set()
    pending = [Requirement(requirement) for requirement in requirements]
    while pending:
        requirement = pending.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        name = installed.metadata["Name"]
        if name not in names:
            names.add(name)
            pending += map(Requirement, installed.requires or [])
    return names


def link(name: str, site_packages: Path) -> None:
    """Link a distribution's top-level files and folders from this environment into another."""
    installed = distribution(name)
    for top in {file.parts[0] for file in installed.files or [] if file.parts[0] not in ("..", "__pycache__")}:
        source, target = Path(str(installed.locate_file(top))), site_packages / top
        if source.exists() and not target.exists():
            target.symlink_to(source)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of programs of an environment with the wheel and what it depends on: no snakemake, no matplotlib."""
    folder = tmp_path_factory.mktemp("installed")
    # of a copy: setuptools leaves files in the source folder, and takes up older ones
    source = folder / "source"
    shutil.copytree(ROOT / "workflow", source / "workflow", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("codebackdoor-*.whl")
    venv.create(folder / "env", with_pip=False)
    (site_packages,) = (folder / "env/lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site_packages)
    for name in closure(PROJECT["dependencies"]):
        link(name, site_packages)
    assert not (site_packages / "snakemake").exists()
    (script,) = (name for name, target in PROJECT["scripts"].items() if target == "codebackdoor.cli:main")
    program = folder / "env/bin" / script
    program.write_text(f"#!{folder}/env/bin/python\nfrom codebackdoor.cli import main\nmain()\n")
    program.chmod(0o755)
    return folder / "env/bin"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    victim = planted.victim(1)
    victim.model.save_pretrained(folder / "model")
    victim.tokenizer.save_pretrained(folder / "model")
    write_examples(folder / "clean.jsonl", planted.make_view().clean)
    return folder


def call(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_commands_for_checkpoints_work(installation: Path, checkpoint: Path) -> None:
    options = ["model", "--clean", "clean.jsonl", "--text-form", "lexed", "--settings", json.dumps(planted.SETTINGS)]
    scanned = call(installation / "codebackdoor", "scan", *options, "--json", folder=checkpoint)
    assert scanned.returncode == 2, scanned.stderr  # no calibration fits, so that there is no verdict
    assert planted.PLANTED in json.loads(scanned.stdout)["trigger"]
    cleaned = call(installation / "codebackdoor", "clean", *options, "--force", "-o", "cleaned", folder=checkpoint)
    assert cleaned.returncode == 1, cleaned.stderr
    assert (checkpoint / "cleaned/model.safetensors").is_file()


def test_the_python_functions_work(installation: Path, checkpoint: Path) -> None:
    code = (
        "import codebackdoor, sys; result = codebackdoor.scan('model', 'clean.jsonl', text_form='lexed', "
        f"settings={planted.SETTINGS!r}); print(result.verdict.trigger); print(codebackdoor.__file__)"
    )
    answer = call(installation / "python", "-c", code, folder=checkpoint)
    assert answer.returncode == 0, answer.stderr
    trigger, location = answer.stdout.splitlines()
    assert planted.PLANTED in trigger
    assert location.startswith(str(installation.parent))


def test_shipped_data_and_type_markers_are_in_the_wheel(installation: Path) -> None:
    (package,) = installation.parent.glob("lib/python*/site-packages/codebackdoor")
    assert (package / "py.typed").is_file()
    data = {path.relative_to(ROOT / "workflow/codebackdoor") for path in ROOT.glob("workflow/codebackdoor/**/*.json")}
    assert data
    assert all((package / path).is_file() for path in data)


def test_a_command_that_needs_an_extra_names_it(installation: Path, tmp_path: Path) -> None:
    answer = call(installation / "codebackdoor", "orphans", folder=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.endswith("psutil, which is not installed: pip install 'codebackdoor[study]'\n")
