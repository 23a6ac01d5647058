"""Jobs that outlive their Snakemake are found by their folder, and ended; those of a living one are left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codebackdoor import processes
from codebackdoor.errors import UserError

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


def begin(study: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the Snakemake and wait for its job."""
    parent = subprocess.Popen([sys.executable, "-u", str(study / "snakemake"), *options], cwd=study)
    end = time.monotonic() + 20
    while len(psutil.Process(parent.pid).children(recursive=True)) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    return parent


def test_a_job_is_an_orphan_once_its_snakemake_is_dead(study: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    by_hand = subprocess.Popen([study / "codebackdoor", "train"], cwd=study)
    parent = begin(study)
    assert processes.orphans(study) == []
    with pytest.raises(UserError, match=rf"a Snakemake is at work in this folder \(process {parent.pid}\)"):
        processes.check_nobody_runs(study)
    processes.check_nobody_runs(tmp_path_factory.mktemp("other"))

    parent.send_signal(signal.SIGKILL)
    parent.wait()
    processes.check_nobody_runs(study)
    (orphan,) = processes.orphans(study)
    assert orphan.command == "codebackdoor train"
    assert len(orphan.processes) == 2
    processes.end([orphan])
    processes.wait([orphan])
    assert processes.orphans(study) == []
    assert by_hand.poll() is None, "what somebody started by hand is not a job"


def test_the_snakemake_inside_of_a_job_is_no_run(study: Path) -> None:
    parent = begin(study, "--mode", "remote")
    processes.check_nobody_runs(study)
    parent.kill()
    parent.wait()


@pytest.mark.parametrize("command", ["man snakemake", "vim codebackdoor snakemake", "python notes.py snakemake", ""])
def test_other_programs_are_none_of_ours(command: str) -> None:
    assert processes._program(command.split()) not in ("snakemake", "codebackdoor")


def test_a_run_on_another_host_is_left_alone(tmp_path: Path) -> None:
    processes.begin(tmp_path)
    processes.check_nobody_runs(tmp_path)
    assert not list((tmp_path / processes.RUNNING).iterdir()), "one of this host that is dead is forgotten"
    (tmp_path / processes.RUNNING / "login-2-4711").touch()
    with pytest.raises(UserError, match=r"on login-2 \(process 4711\): run `make settle` there"):
        processes.check_nobody_runs(tmp_path)
    processes.begin(tmp_path)
    processes.ended(tmp_path)
    assert [path.name for path in (tmp_path / processes.RUNNING).iterdir()] == ["login-2-4711"]
