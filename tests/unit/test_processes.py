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

SLEEP = "import time\ntime.sleep(60)\n"
PARENT = "import subprocess, sys\nsubprocess.run([sys.executable, sys.argv[1]])\n"


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Path]:
    """A folder with programs of the two names: a job that sleeps, and a Snakemake that waits for the job."""
    (tmp_path / "codebackdoor").write_text(SLEEP)
    (tmp_path / "snakemake").write_text(PARENT)
    yield tmp_path
    for process in psutil.process_iter(["cmdline"]):
        if str(tmp_path) in " ".join(process.info["cmdline"] or ()):
            process.kill()


def begin(study: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the Snakemake and wait for its job."""
    command = [sys.executable, str(study / "snakemake"), str(study / "codebackdoor"), *options]
    parent = subprocess.Popen(command, cwd=study)
    end = time.monotonic() + 20
    while not psutil.Process(parent.pid).children():
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.2)
    return parent


def test_a_job_is_an_orphan_once_its_snakemake_is_dead(study: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    parent = begin(study)
    assert [one.pid for one in processes.snakemakes(study)] == [parent.pid]
    assert processes.orphans(study) == []
    assert processes.snakemakes(tmp_path_factory.mktemp("other")) == []

    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert processes.snakemakes(study) == []
    (orphan,) = processes.orphans(study)
    processes.end([orphan])
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    processes.wait([orphan])
    assert processes.orphans(study) == []


def test_the_snakemake_inside_of_a_job_is_no_run(study: Path) -> None:
    parent = begin(study, "--mode", "remote")
    assert processes.snakemakes(study) == []
    parent.kill()
    parent.wait()
