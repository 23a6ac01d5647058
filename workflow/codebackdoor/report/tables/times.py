"""Seconds of trigger inversion and unlearning (EliBadCode, Table 9).

Reads ``provenance.json`` files. This is the only table whose numbers differ from run to run; no comparison reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from codebackdoor.config.scenario import Scenario
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.study import Study, anonymous, scenario_of
from codebackdoor.report.tables.listing import Column, Listing, ListingPart, Value

PHASES = {"inversion": "Inversion", "unlearning": "Unlearning"}
#: For methods that scan again after unlearning.
_RESCAN = "rescan"
_COLUMNS = (
    Column("victim", "Victim"),
    Column("defense", "Defense"),
    Column("seeds", "Seeds", "number"),
    *(
        column
        for name, head in PHASES.items()
        for column in (Column(name, head, "seconds"), Column(f"paper_{name}", f"{head}, paper", "seconds"))
    ),
    Column(_RESCAN, "Later scans", "seconds"),
    Column("device", "Device"),
)
_NOTES = (
    "Wall-clock times on this machine with this number of threads, means over seeds; for a search that was killed and "
    "resumed, the time of the last part. The paper's times are those of its GPU at its scale.",
    f"{labels.DASH}: the defense has no such phase or did not reach it: a victim that the scan calls clean is not "
    "unlearned.",
)


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    jobs: dict[Scenario, list[Mapping[str, Any]]] = {}
    for path in inputs:
        job = read_json(path)
        if job.get("phases"):
            jobs.setdefault(anonymous(scenario_of(path)), []).append(job)
    rows = tuple(_row(study, scenario, of_seeds) for scenario, of_seeds in jobs.items())
    return Listing(
        f"{study.experiment.title}: times", (ListingPart("times", "Time of each phase", _COLUMNS, rows),), _NOTES
    )


def _row(study: Study, scenario: Scenario, jobs: Sequence[Mapping[str, Any]]) -> Mapping[str, Value]:
    row: dict[str, Value] = {
        "victim": labels.group(scenario),
        "defense": labels.word(scenario.elimination),
        "seeds": len(jobs),
        "device": ", ".join(sorted({_device(job) for job in jobs})),
    }
    for phase in (*PHASES, _RESCAN):
        seconds = [float(job["phases"][phase]) for job in jobs if phase in job["phases"]]
        row[phase] = mean(seconds) if seconds else None
        printed = study.printed(scenario, scenario.attack, phase) if phase in PHASES else None
        if printed is not None:
            row[f"paper_{phase}"] = printed.value
    return row


def _device(job: Mapping[str, Any]) -> str:
    return f"{job['device']['name']}, {job['threads']} thread{'s' * (job['threads'] != 1)}"
