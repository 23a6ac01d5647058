"""Resolve envs/requirements*.in into pinned files; run by `make pins`.

requirements.txt (and environment.yaml, the same for conda) is the environment of every run. What only some need lies on
top of it, in files of their own: requirements-{slurm,dvc,fetch}.txt. The pins must serve Python 3.11 and
3.12 alike, so that a version that differs between the two is an error here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("requirements.in", "requirements-dev.in")
#: Parts that are installed where they are used, over the environment: `make slurm`, `make pull`, `make fetch`.
EXTRAS = ("slurm", "dvc", "fetch")
NOTE = "made by `make pins` from requirements.in and requirements-dev.in"
TORCH = "torch has a CPU build where the package index offers one; a CUDA build brings its own pinned libraries"


def resolve(*wanted: str) -> list[str]:
    """Return ``name==version`` of all that pip would install into an empty environment of this Python."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    sources = [part for name in wanted for part in ("--requirement", str(HERE / name))]
    report = json.loads(subprocess.run([*command, *sources], check=True, capture_output=True, text=True).stdout)
    found = ((one["metadata"]["name"], one["metadata"]["version"].partition("+")[0]) for one in report["install"])
    # libraries that only a CUDA build of torch brings are pinned by torch itself
    cuda = ("nvidia-", "cuda-", "triton")
    return sorted((f"{name}=={version}" for name, version in found if not name.startswith(cuda)), key=str.lower)


def requirements(pins: list[str]) -> str:
    return "\n".join(
        (f"# Every package of the environment, for Python 3.11 and 3.12; {NOTE}.", f"# {TORCH}.", *pins, "")
    )


def extra(name: str, pins: list[str]) -> str:
    """What an extra adds to the environment, whose own versions stay."""
    more = sorted(set(resolve("requirements.txt", f"requirements-{name}.in")) - set(pins), key=str.lower)
    return "\n".join((f"# Over requirements.txt; made by `make pins` from requirements-{name}.in.", *more, ""))


def environment(pins: list[str]) -> str:
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
    pins = resolve(*SOURCES)
    (HERE / "requirements.txt").write_text(requirements(pins))
    (HERE / "environment.yaml").write_text(environment(pins))
    for name in EXTRAS:
        (HERE / f"requirements-{name}.txt").write_text(extra(name, pins))
