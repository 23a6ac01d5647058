"""Jobs that outlive their Snakemake are found by their folder and ended; jobs of a running one are left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codebackdoor.errors import UserError
from codebackdoor.runs import local_jobs

SLEEP = "import time\ntime.sleep(60)\n"
JOB = "set -euo pipefail;  codebackdoor train --out x > log 2>&1"
PARENT = f"""
import os, subprocess, sys
os.environ["PATH"] = f"{{os.getcwd()}}:{{os.environ['PATH']}}"
subprocess.run(["bash", "-c", {JOB!r}])
"""


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Path]:
    """A folder with programs of the two names: a job that sleeps, and a Snakemake that waits for the job."""
    program = tmp_path / "codebackdoor"
    program.write_text(f"#!{sys.executable}\n{SLEEP}")
    program.chmod(0o755)
    (tmp_path / "snakemake").write_text(PARENT)
    yield tmp_path
    for process in psutil.process_iter(["cmdline"]):
        if str(tmp_path) in " ".join(process.info["cmdline"] or ()):
            process.kill()


def start(study: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the Snakemake and wait for its job."""
    parent = subprocess.Popen([sys.executable, "-u", str(study / "snakemake"), *options], cwd=study)
    end = time.monotonic() + 20
    while len(psutil.Process(parent.pid).children(recursive=True)) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    return parent


def test_a_job_is_an_orphan_once_its_snakemake_is_dead(study: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    by_hand = subprocess.Popen([study / "codebackdoor", "train"], cwd=study)
    parent = start(study)
    assert local_jobs.orphans(study) == []
    with pytest.raises(UserError, match=rf"Snakemake is already running in this folder \(process {parent.pid}\)"):
        local_jobs.check_idle(study)
    local_jobs.check_idle(tmp_path_factory.mktemp("other"))

    parent.send_signal(signal.SIGKILL)
    parent.wait()
    local_jobs.check_idle(study)
    (orphan,) = local_jobs.orphans(study)
    assert orphan.command == "codebackdoor train"
    assert len(orphan.processes) == 2
    local_jobs.terminate([orphan])
    local_jobs.wait([orphan])
    assert local_jobs.orphans(study) == []
    assert by_hand.poll() is None, "a command started by hand is not a job"


def test_the_snakemake_inside_a_job_is_not_a_run(study: Path) -> None:
    parent = start(study, "--mode", "remote")
    local_jobs.check_idle(study)
    parent.kill()
    parent.wait()


@pytest.mark.parametrize("command", ["man snakemake", "vim codebackdoor snakemake", "python notes.py snakemake", ""])
def test_other_programs_are_not_ours(command: str) -> None:
    assert local_jobs._python_program(command.split()) not in ("snakemake", "codebackdoor")


def test_a_run_on_another_host_is_left_alone(tmp_path: Path) -> None:
    local_jobs.mark_started(tmp_path)
    local_jobs.check_idle(tmp_path)
    assert not list((tmp_path / local_jobs.RUNNING).iterdir()), "the record of a dead process of this host is removed"
    (tmp_path / local_jobs.RUNNING / "login-2-4711").touch()
    with pytest.raises(UserError, match=r"on login-2 \(process 4711\): run `make settle` there"):
        local_jobs.check_idle(tmp_path)
    local_jobs.mark_started(tmp_path)
    local_jobs.mark_ended(tmp_path)
    assert [path.name for path in (tmp_path / local_jobs.RUNNING).iterdir()] == ["login-2-4711"]
