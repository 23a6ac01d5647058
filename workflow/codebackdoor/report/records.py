"""When, on which machine and how long a run took, from the records of its jobs, so that a later report agrees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebackdoor.config.experiments import scenarios
from codebackdoor.files import read_json
from codebackdoor.report.study import Study

Job = Mapping[str, Any]
#: The distinct values of a fact in the records that state it.
_Facts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """``date``: start of the latest job. ``core_seconds``: time multiplied by threads, summed over all jobs."""

    date: str | None
    devices: _Facts
    python: _Facts
    torch: _Facts
    commits: _Facts
    jobs: int
    core_seconds: float


@dataclass(frozen=True, slots=True)
class StageCost:
    stage: str
    jobs: int
    seconds: float
    peak_mb: float


def jobs(studies: Iterable[Study], out: Path) -> list[Job]:
    """The records of these studies' jobs; those of an earlier configuration in the same folder are ignored."""
    used = (scenario for study in studies for scenario in scenarios(study.experiment))
    folders = {folder for scenario in used for folder in scenario.folders(out)}
    return [read_json(path) for folder in sorted(folders) if (path := folder / "provenance.json").is_file()]


def facts(records: Sequence[Job]) -> RunFacts:
    started = [str(job["started"]) for job in records if "started" in job]
    return RunFacts(
        date=max(started).partition("T")[0] if started else None,
        devices=_distinct(job.get("device", {}).get("name") for job in records),
        python=_distinct(job.get("python") for job in records),
        torch=_distinct(job.get("versions", {}).get("torch") for job in records),
        commits=_distinct(job.get("commit") for job in records),
        jobs=len(records),
        core_seconds=sum(float(job["seconds"]) * job.get("threads", 1) for job in records),
    )


def costs(records: Iterable[Job]) -> list[StageCost]:
    """Number of jobs, seconds and peak memory of every stage, the most expensive first."""
    stages: dict[str, list[Job]] = {}
    for job in records:
        stages.setdefault(job["stage"], []).append(job)
    totals = [
        StageCost(
            stage,
            len(of_stage),
            sum(float(job["seconds"]) for job in of_stage),
            max(float(job["peak_mb"]) for job in of_stage),
        )
        for stage, of_stage in stages.items()
    ]
    return sorted(totals, key=lambda cost: (-cost.seconds, cost.stage))


def _distinct(values: Iterable[str | None]) -> _Facts:
    return tuple(sorted({value for value in values if value}))
