"""What a killed Snakemake leaves on this machine: the jobs that it had started itself go on.

A process belongs to a study if its working directory is the study's folder. A job that still has its Snakemake is
none of ours to end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

#: Seconds that a process has to end by itself before it is killed.
GRACE = 10.0


def snakemakes(folder: Path) -> list[psutil.Process]:
    """Runs of Snakemake in ``folder`` that are alive, without those that Snakemake starts inside of its jobs."""
    return [process for process in _of(folder, "snakemake") if "--mode" not in process.cmdline()]


def orphans(folder: Path) -> list[psutil.Process]:
    """Commands of this package that run in ``folder`` and have no Snakemake above them: neither its own nor a job's."""
    own = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    found = []
    for process in _of(folder, "codebackdoor"):
        if process.pid not in own and not any(_is(parent, "snakemake") for parent in process.parents()):
            found.append(process)
    return found


def end(found: Sequence[psutil.Process]) -> None:
    """Ask the processes to end, and kill those that do not."""
    for process in found:
        _quietly(process.terminate)
    _, left = psutil.wait_procs(found, timeout=GRACE)
    for process in left:
        _quietly(process.kill)
    psutil.wait_procs(left)


def wait(found: Sequence[psutil.Process]) -> None:
    """Return when all have ended by themselves."""
    psutil.wait_procs(found)


def _of(folder: Path, program: str) -> Iterator[psutil.Process]:
    place = str(folder.resolve())
    for process in psutil.process_iter():
        try:
            if _is(process, program) and process.cwd() == place:
                yield process
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue


def _is(process: psutil.Process, program: str) -> bool:
    """Whether the process is a Python that runs the program of this name, also as ``python -m``."""
    try:
        command = process.cmdline()
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return False
    script = command[2:3] if command[1:2] == ["-m"] else command[1:2]
    return any(Path(part).name == program for part in (*command[:1], *script))


def _quietly(act: object) -> None:
    assert callable(act)
    try:
        act()
    except psutil.NoSuchProcess:
        return
