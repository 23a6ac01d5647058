"""The workflow runs from the layout that Snakemake's workflow catalog expects, just as it runs from the root folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def dry_run(snakefile: str, out: Path) -> str:
    """What a run of the default study would do, without dates and job numbers."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        snakefile,
        "--dry-run",
        "--printshellcmds",
        "--cores",
        "2",
    ]
    command += ["--config", f"out={out}"]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout
    jobs = result.stdout.partition("Job stats:")[2]
    # jobs that are ready at the same time are listed in arbitrary order
    blocks = sorted(re.sub(r"Job \d+: ", "", block) for block in re.split(r"\n\[.+\]\n", jobs))
    assert len(blocks) > 50, result.stdout
    return "\n".join(blocks)


def test_the_catalogs_snakefile_is_that_of_the_root_folder(tmp_path: Path) -> None:
    assert dry_run("workflow/Snakefile", tmp_path / "run") == dry_run("Snakefile", tmp_path / "run")


def test_the_catalogs_file_names_what_exists() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"] == {"conda": True}
    assert usage["report"] is True
    profile = usage["mandatory-flags"]["flags"].removeprefix("--profile ")
    assert (ROOT / profile / "config.yaml").is_file()


@pytest.mark.parametrize("name", ["Snakefile", "workflow/Snakefile"])
def test_every_snakefile_is_linted(name: str) -> None:
    (command,) = re.findall(r"^\tsnakefmt --check (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert name in command.split()
