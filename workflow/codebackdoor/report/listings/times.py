"""Seconds of trigger inversion and unlearning (EliBadCode, Table 9).

Reads ``provenance.json`` files: the only table whose numbers differ from run to run, and no comparison reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from codebackdoor.config.scenario import Scenario
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.collect import Study, anonymous, scenario_of
from codebackdoor.report.listed import Column, Listed, Part, Value

PHASES = {"inversion": "Inversion", "unlearning": "Unlearning"}
#: Of a method that scans again after unlearning; the paper's does not.
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


def build(study: Study, inputs: Sequence[Path]) -> Listed:
    found: dict[Scenario, list[Mapping[str, Any]]] = {}
    for path in inputs:
        job = read_json(path)
        if job.get("phases"):
            found.setdefault(anonymous(scenario_of(path)), []).append(job)
    rows = tuple(_row(study, one, jobs) for one, jobs in found.items())
    notes = (
        "Wall-clock times of the machine and the number of threads at hand, means over seeds; of a search that was "
        "killed and taken up again, the last part. The paper's are those of its GPU at its scale.",
        f"{labels.DASH}: the defense has no such phase, or did not come to it: what a scan calls clean is not "
        "unlearnt.",
    )
    part = Part("times", "Time of each phase", _COLUMNS, rows)
    return Listed(f"{study.experiment.title}: times", (part,), notes)


def _row(study: Study, one: Scenario, jobs: Sequence[Mapping[str, Any]]) -> Mapping[str, Value]:
    row: dict[str, Value] = {
        "victim": labels.group(one),
        "defense": labels.word(one.elimination),
        "seeds": len(jobs),
        "device": ", ".join(sorted({_device(job) for job in jobs})),
    }
    for phase in (*PHASES, _RESCAN):
        known = [float(job["phases"][phase]) for job in jobs if phase in job["phases"]]
        row[phase] = mean(known) if known else None
        printed = study.printed(one, one.attack, phase) if phase in PHASES else None
        if printed is not None:
            row[f"paper_{phase}"] = printed.value
    return row


def _device(job: Mapping[str, Any]) -> str:
    return f"{job['device']['name']}, {job['threads']} thread{'s' * (job['threads'] != 1)}"
