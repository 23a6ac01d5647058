"""SLURM jobs of a study, which keep running when Snakemake is killed, so that a rerun would submit them again."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from codebackdoor.errors import UserError

#: Where Snakemake's SLURM plugin keeps the logs of the jobs that it submitted.
SUBMITTED = Path(".snakemake/slurm_logs")
#: Seconds between two queries of the queue.
POLL_SECONDS = 2.0
_FORMAT = "%A|%T|%Z|%k"


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """A job of the scheduler: its ID, its state, and Snakemake's comment (rule and wildcards)."""

    id: str
    state: str
    comment: str


def jobs(folder: Path) -> list[SlurmJob]:
    """Return the user's unfinished jobs that any Snakemake, running or not, submitted from ``folder``.

    Other jobs of the folder, such as one that runs Snakemake itself, are not included: only Snakemake's comments begin
    with a rule.

    The list is empty on a machine without SLURM. Raises UserError if SLURM fails and jobs were submitted from
    ``folder``.
    """
    if shutil.which("squeue") is None:
        return []
    try:
        # without --states, squeue lists unfinished jobs only
        queue = _run("squeue", "--me", "--noheader", "--format", _FORMAT)
    except UserError:
        # SLURM's programs may be installed on a machine without a cluster
        if not (folder / SUBMITTED).is_dir():
            return []
        raise
    submitted = []
    for line in queue.splitlines():
        job_id, state, working_directory, comment = line.split("|", 3)
        if comment.startswith("rule_") and Path(working_directory).resolve() == folder.resolve():
            submitted.append(SlurmJob(job_id, state, comment))
    return submitted


def cancel(submitted: Sequence[SlurmJob]) -> None:
    """Cancel the jobs."""
    if submitted:
        _run("scancel", *(job.id for job in submitted))


def wait(folder: Path, ids: Iterable[str]) -> None:
    """Return when none of the jobs is left in the queue."""
    remaining = set(ids)
    while remaining:
        remaining &= {job.id for job in jobs(folder)}
        if remaining:
            time.sleep(POLL_SECONDS)


def _run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"{command[0]} failed: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout
