"""Resolve the dependencies in pyproject.toml into pinned files; run by `make pins`.

requirements.txt (and environment.yaml, the same for conda) is the environment of every run: the package, its extra
`study` and the group `dev`. The other extras are installed on top of it, each from its own file:
requirements-{slurm,dvc,fetch}.txt. The pins must work with both Python 3.11 and 3.12; pip fails on versions that do
not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
#: Extras with their own file, installed by `make slurm`, `make pull` and `make fetch`.
EXTRAS = ("slurm", "dvc", "fetch")
#: The version with which the study was measured; the package itself allows others, for users who only scan.
STUDY_TORCH = "torch==2.13.0"
NOTE = "made by `make pins` from pyproject.toml"
TORCH = "torch has a CPU build where the package index offers one; a CUDA build brings its own pinned libraries"


def study_requirements() -> list[str]:
    """The package's dependencies, those of its extra ``study``, and those of the tests."""
    project = PROJECT["project"]
    dependencies = [name for name in project["dependencies"] if not name.startswith("torch>")]
    return [
        *dependencies,
        STUDY_TORCH,
        *project["optional-dependencies"]["study"],
        *PROJECT["dependency-groups"]["dev"],
    ]


def resolve(*requirements: str) -> list[str]:
    """``name==version`` of everything that pip would install for the requirements into an empty environment."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    report = json.loads(subprocess.run([*command, *requirements], check=True, capture_output=True, text=True).stdout)
    metadata = [package["metadata"] for package in report["install"]]
    pins = [(package["name"], package["version"].partition("+")[0]) for package in metadata]
    # torch itself pins the libraries that only its CUDA builds need
    cuda = ("nvidia-", "cuda-", "triton")
    return sorted((f"{name}=={version}" for name, version in pins if not name.startswith(cuda)), key=str.lower)


def requirements_text(pins: list[str]) -> str:
    head = (f"# Every package of the environment, for Python 3.11 and 3.12; {NOTE}.", f"# {TORCH}.")
    return "\n".join((*head, *pins, ""))


def extra_text(name: str, pins: list[str]) -> str:
    """The packages that an extra adds to the environment, which keeps its versions."""
    extra_pins = set(resolve(*pins, *PROJECT["project"]["optional-dependencies"][name])) - set(pins)
    return "\n".join((f"# On top of requirements.txt; {NOTE}.", *sorted(extra_pins, key=str.lower), ""))


def environment_text(pins: list[str]) -> str:
    head = (
        f"# The same environment for conda; {NOTE}.",
        "# By hand: conda env create --file envs/environment.yaml, activate it, pip install --no-deps --editable .",
        "# By Snakemake (--software-deployment-method conda): environment.post-deploy.sh does the last step.",
        "name: codebackdoor",
        "channels: [conda-forge]",
        "dependencies:",
        "  - python =3.12",
        "  - pip",
        "  - pip:",
    )
    return "\n".join((*head, *(f"      - {pin}" for pin in pins), ""))


if __name__ == "__main__":
    pins = resolve(*study_requirements())
    (HERE / "requirements.txt").write_text(requirements_text(pins))
    (HERE / "environment.yaml").write_text(environment_text(pins))
    for name in EXTRAS:
        (HERE / f"requirements-{name}.txt").write_text(extra_text(name, pins))
