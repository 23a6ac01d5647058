"""Snakemake's processes on this machine: which study folders are in use, and which jobs a killed Snakemake left behind.

During a run, the Snakefile keeps a file named after its host and process ID (``mark_started``, ``mark_ended``), because
a folder on a shared disk may be in use on another host, whose processes are not visible here. The jobs of a killed
Snakemake keep running; they are shells that run one command of this package in the study's folder.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from codebackdoor.errors import UserError

RUNNING = Path(".snakemake/running")
#: The shell command of a job, after the beginning that Snakemake adds.
_JOB = re.compile(r"set -euo pipefail;\s+(codebackdoor \S+.*)", re.DOTALL)
#: Seconds that a process gets to end by itself before it is killed.
GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class OrphanedJob:
    """A job whose Snakemake is gone: its shell's process ID, its command, and its processes, shell first."""

    pid: int
    command: str
    processes: tuple[psutil.Process, ...]


def mark_started(folder: Path = Path()) -> None:
    """Record that this process runs the study in ``folder``."""
    marker = folder / RUNNING / _marker_name()
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def mark_ended(folder: Path = Path()) -> None:
    """Remove the record of ``mark_started``."""
    (folder / RUNNING / _marker_name()).unlink(missing_ok=True)


def check_idle(folder: Path) -> None:
    """Raise UserError if a Snakemake is running in ``folder`` on this host or, by its record, on another host."""
    for process, command in _processes_in(folder):
        if _python_program(command) == "snakemake" and "--mode" not in command:
            raise UserError(
                f"Snakemake is already running in this folder (process {process.pid}); wait until it has finished, or "
                "stop it with Ctrl-C"
            )
    for marker in sorted((folder / RUNNING).glob("*")):
        host, _, pid = marker.name.rpartition("-")
        if host != socket.gethostname():
            raise UserError(
                f"Snakemake was started in this folder on {host} (process {pid}): run `make settle` there; if that "
                f"host no longer exists, remove {marker} first"
            )
        marker.unlink(missing_ok=True)


def orphans(folder: Path) -> list[OrphanedJob]:
    """Return the jobs that run in ``folder`` on this machine without a Snakemake as their ancestor."""
    jobs = []
    for process, command in _processes_in(folder):
        job = _JOB.match(command[-1])
        if job and command[-2:-1] == ["-c"]:
            with suppress(psutil.Error):
                ancestors = [_python_program(parent.cmdline()) for parent in process.parents()]
                if "snakemake" not in ancestors:
                    children = process.children(recursive=True)
                    jobs.append(OrphanedJob(process.pid, " ".join(job[1].split()[:2]), (process, *children)))
    return jobs


def terminate(jobs: Sequence[OrphanedJob]) -> None:
    """Ask the jobs to end, and kill those that do not."""
    processes = [process for job in jobs for process in job.processes]
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=GRACE_SECONDS)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()


def wait(jobs: Sequence[OrphanedJob]) -> None:
    """Return when all jobs have ended."""
    psutil.wait_procs([process for job in jobs for process in job.processes])


def _processes_in(folder: Path) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Processes whose working directory is ``folder``, with their command lines."""
    working_directory = str(folder.resolve())
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if command and process.cwd() == working_directory:
                yield process, command


def _python_program(command: Sequence[str]) -> str | None:
    """The name of the script or module that a Python process runs; None for any other program."""
    if not command or not Path(command[0]).name.startswith("python"):
        return None
    arguments = list(command[1:])
    while arguments and arguments[0].startswith("-") and arguments[0] != "-m":
        arguments.pop(0)
    script = arguments[1:2] if arguments[:1] == ["-m"] else arguments[:1]
    return Path(script[0]).name if script else None


def _marker_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"
