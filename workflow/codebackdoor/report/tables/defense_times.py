"""Seconds that a defense takes per test input, or for filtering and retraining (CodePurify, Table IV).

Reads only ``provenance.json`` files; comparisons of runs ignore this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from codebackdoor.config.scenario import FILTERED, FILTERED_BY_VICTIM, NONE, REWRITTEN, Scenario
from codebackdoor.files import read_object
from codebackdoor.report import labels, papers
from codebackdoor.report.study import Study, scenario_of
from codebackdoor.report.tables.listing import Column, Listing, ListingPart, Value

Job = Mapping[str, Any]
_COLUMNS = (
    Column("dataset", "Data set"),
    Column("defense", "Defense"),
    Column("jobs", "Jobs", "number"),
    Column("training", "Filtering and training, s", "seconds"),
    Column("paper_training", "Paper, the same, s", "seconds"),
    Column("inference", "Per input, ms", "number"),
    Column("multiple", "Multiple of undefended", "number"),
    Column("paper_inference", "Paper, per input, ms", "number"),
    Column("paper_multiple", "Paper, multiple", "number"),
)
_NOTES = (
    "Wall-clock time of whole jobs over the inputs that they read, means over attacks, models and seeds: loading a "
    "model is part of it, which weighs more the fewer inputs there are. A purification's time includes its calibration "
    "and the prediction; of one whose measurements several variants share, it is that of measuring and deciding.",
    "The paper's times are those of its machine at its scale; its averages are over attacks and models, too.",
    f"{labels.DASH}: the defense has no such job, or its record does not say how many inputs it read.",
)


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    out = Path(study.settings["out"])
    trainings: dict[tuple[str, str], list[float]] = {}
    inferences: dict[tuple[str, str], list[float]] = {}
    for path in inputs:
        scenario, job = scenario_of(path), read_object(path)
        row = scenario.dataset, _defense(scenario)
        times = inferences.setdefault(row, [])
        if path.is_relative_to(out / "models"):
            seconds = _filtering(scenario, out)
            if seconds is not None:
                trainings.setdefault(row, []).append(seconds + float(job["seconds"]))
        elif (time := _per_input(scenario, job, out)) is not None:
            times.append(time)
    rows = tuple(_row(study, name, trainings.get(name, []), inferences) for name in sorted(inferences, key=_order))
    return Listing(
        f"{study.experiment.title}: times of the defenses",
        (ListingPart("defense_times", "Time of each defense", _COLUMNS, rows),),
        _NOTES,
    )


def _order(name: tuple[str, str]) -> tuple[str, bool, str]:
    return name[0], name[1] != NONE, name[1]


def _defense(scenario: Scenario) -> str:
    return next((name for name in (scenario.filtering, scenario.purification) if name != NONE), NONE)


def _filtering(scenario: Scenario, out: Path) -> float | None:
    """Seconds of the filtering, which is either shared by all victims or done for each model."""
    folders = (Path(pattern.format(out=out, **scenario.wildcards)) for pattern in (FILTERED_BY_VICTIM, FILTERED))
    path = next((folder / "provenance.json" for folder in folders if (folder / "provenance.json").is_file()), None)
    return None if path is None else float(read_object(path)["seconds"])


def _per_input(scenario: Scenario, job: Job, out: Path) -> float | None:
    """Seconds per input: of the job itself, and of the measurements or rewriting before it."""
    parts = [job, *_before(scenario, job, out)]
    if not all(part.get("inputs") and part.get("seconds") is not None for part in parts):
        return None
    return sum(float(part["seconds"]) / int(part["inputs"]) for part in parts)


def _before(scenario: Scenario, job: Job, out: Path) -> Iterator[Job]:
    if job.get("measured"):
        yield job["measured"]
    if scenario.purification == NONE or job.get("stage") != "predict":
        return
    # the rewriting is shared by all victims: of the triggered test set, or of the clean one for a benign victim
    path = Path(REWRITTEN.format(out=out, **scenario.wildcards)) / "provenance.json"
    yield read_object(path) if path.is_file() else {}


def _row(
    study: Study, name: tuple[str, str], trainings: Sequence[float], inferences: Mapping[tuple[str, str], list[float]]
) -> Mapping[str, Value]:
    dataset, defense = name
    row: dict[str, Value] = {
        "dataset": labels.word(dataset),
        "defense": labels.word(defense) if defense != NONE else labels.UNDEFENDED,
        "jobs": len(inferences[name]) + len(trainings),
        "training": mean(trainings) if trainings else None,
    }
    bare = inferences.get((dataset, NONE))
    if inferences[name]:
        row["inference"] = 1000 * mean(inferences[name])
        row["multiple"] = mean(inferences[name]) / mean(bare) if bare else None
    printed, undefended = _printed(study, dataset, defense), _printed(study, dataset, NONE)
    row["paper_training"] = printed.get("training")
    if (seconds := printed.get("inference")) is not None:
        row["paper_inference"] = 1000 * seconds
        row["paper_multiple"] = seconds / undefended["inference"]
    return row


def _printed(study: Study, dataset: str, defense: str) -> Mapping[str, Any]:
    """A paper's values for a defense on a data set, over all attacks and models; empty if it prints none."""
    section = next((kind for kind in ("filterings", "purifications") if defense in study.settings.get(kind, {})), None)
    method = papers.UNDEFENDED_VICTIM if section is None else str(study.variant(section, defense)["method"])
    if section is not None and method != defense:
        return {}
    for cited in study.experiment.paper:
        table = papers.tables()[cited.table]
        their_dataset = study.printed_dataset(dataset, cited)
        for key, _, values in table.rows:
            is_average = key.attack in (None, NONE) and key.model is None
            if is_average and (key.task, key.dataset, key.defense) == (study.task(dataset), their_dataset, method):
                return values if "inference" in values else {}
    return {}
