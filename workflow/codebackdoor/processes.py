"""Snakemake's processes on this machine: who is at work in a study's folder, and what a killed Snakemake left behind.

A run writes its host and process number down while it lasts (``begin``, ``ended``, called by the Snakefile): a folder
on a shared disk may be at work from another host, whose processes cannot be seen from here. The jobs that a killed
Snakemake had started itself go on; they are shells that run one command of this package in the study's folder.
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
#: How Snakemake begins the shell command of a job.
_JOB = re.compile(r"set -euo pipefail;\s+(codebackdoor \S+.*)", re.DOTALL)
#: Seconds that a process has to end by itself before it is killed.
GRACE = 10.0


@dataclass(frozen=True, slots=True)
class Orphan:
    """A job whose Snakemake is gone: its shell's process number, its command, and its processes, shell first."""

    pid: int
    command: str
    processes: tuple[psutil.Process, ...]


def begin(folder: Path = Path()) -> None:
    """Write down that this process runs the study of ``folder``."""
    place = folder / RUNNING
    place.mkdir(parents=True, exist_ok=True)
    (place / _name()).touch()


def ended(folder: Path = Path()) -> None:
    (folder / RUNNING / _name()).unlink(missing_ok=True)


def check_nobody_runs(folder: Path) -> None:
    """Raise a UserError where a Snakemake is at work in ``folder``, on this host or, as far as is written, another."""
    for process, command in _of(folder):
        if _program(command) == "snakemake" and "--mode" not in command:
            raise UserError(
                f"a Snakemake is at work in this folder (process {process.pid}): let it finish, or end it with Ctrl-C"
            )
    for place in sorted((folder / RUNNING).glob("*")):
        host, _, pid = place.name.rpartition("-")
        if host != socket.gethostname():
            raise UserError(
                f"a Snakemake was started in this folder on {host} (process {pid}): run `make settle` there; if that "
                f"host is gone, remove {place} first"
            )
        place.unlink(missing_ok=True)


def orphans(folder: Path) -> list[Orphan]:
    """Jobs in ``folder`` that run on this machine and have no Snakemake above them."""
    found = []
    for process, command in _of(folder):
        job = _JOB.match(command[-1])
        if job and command[-2:-1] == ["-c"]:
            with suppress(psutil.Error):
                above = [_program(parent.cmdline()) for parent in process.parents()]
                if "snakemake" not in above:
                    below = tuple(process.children(recursive=True))
                    found.append(Orphan(process.pid, " ".join(job[1].split()[:2]), (process, *below)))
    return found


def end(found: Sequence[Orphan]) -> None:
    """Ask the jobs to end, and kill those that do not."""
    processes = [process for orphan in found for process in orphan.processes]
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=GRACE)
    for process in left:
        with suppress(psutil.Error):
            process.kill()


def wait(found: Sequence[Orphan]) -> None:
    """Return when all have ended."""
    psutil.wait_procs([process for orphan in found for process in orphan.processes])


def _of(folder: Path) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Processes in the folder with their command lines."""
    place = str(folder.resolve())
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if command and process.cwd() == place:
                yield process, command


def _program(command: Sequence[str]) -> str | None:
    """The name of the script or module that a Python runs; None for another program."""
    if not command or not Path(command[0]).name.startswith("python"):
        return None
    rest = list(command[1:])
    while rest and rest[0].startswith("-") and rest[0] != "-m":
        rest.pop(0)
    script = rest[1:2] if rest[:1] == ["-m"] else rest[:1]
    return Path(script[0]).name if script else None


def _name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"
