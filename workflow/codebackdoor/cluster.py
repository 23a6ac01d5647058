"""What a killed Snakemake leaves on a cluster: its jobs go on, and a rerun would submit them a second time."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from codebackdoor.errors import UserError

#: Where Snakemake's plugin keeps the logs of what it submits.
SUBMITTED = Path(".snakemake/slurm_logs")
#: Seconds between two looks at the queue.
PAUSE = 2.0
_FORMAT = "%A|%T|%Z|%k"


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the scheduler: its id, its state, and what Snakemake wrote beside it (rule and wildcards)."""

    id: str
    state: str
    comment: str


def jobs(folder: Path) -> list[Job]:
    """Own jobs that wait or run and that a Snakemake, dead or alive, submitted from ``folder``.

    Others of that folder, such as the one that runs Snakemake itself, are not among them: Snakemake's comments begin
    with the rule.

    An empty list where there is no SLURM; UserError where it does not answer and jobs were submitted from ``folder``.
    """
    if shutil.which("squeue") is None:
        return []
    try:
        # without --states, squeue lists what is not finished
        listed = _ask("squeue", "--me", "--noheader", "--format", _FORMAT)
    except UserError:
        # programs without a cluster behind them, as on many a laptop
        if not (folder / SUBMITTED).is_dir():
            return []
        raise
    found = []
    for line in listed.splitlines():
        number, state, submitted_from, comment = line.split("|", 3)
        if comment.startswith("rule_") and Path(submitted_from).resolve() == folder.resolve():
            found.append(Job(number, state, comment))
    return found


def cancel(found: Sequence[Job]) -> None:
    if found:
        _ask("scancel", *(job.id for job in found))


def wait(folder: Path, ids: Iterable[str]) -> None:
    """Return when none of the jobs is left."""
    left = set(ids)
    while left:
        left &= {job.id for job in jobs(folder)}
        if left:
            time.sleep(PAUSE)


def _ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
