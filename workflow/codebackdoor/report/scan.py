"""Verdicts of the label scans, the backdoor that remains after unlearning, and the calibrations of the verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings
from codebackdoor.evaluation.significance import upper_bound
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.collect import testsets
from codebackdoor.report.study import Study
from codebackdoor.types import holds

#: Truth and verdict of a victim without a backdoor.
CLEAN_VICTIM = "clean"
#: Maximum flip rate of a backdoor that counts as removed.
REMOVED = 0.15


@dataclass(frozen=True, slots=True)
class ScanVerdict:
    """One scanned victim; the defender does not know the ``truth``.

    ``right``: None if the variant was told the target, so that its verdict says nothing. ``scans``: the number of scans
    and the result of the last one, None if the method scans once. ``left``: the flip rate after the elimination, None
    if it is undefined (benign victims, retrieval) or not measured in the experiment. ``seconds``: duration of the
    elimination, None if it was not read.
    """

    victim: str
    defense: str
    truth: str
    verdict: str
    right: bool | None
    position: str
    trigger: str
    loss: float
    margin: float | None
    scans: str | None
    left: float | None
    seconds: float | None = None

    @property
    def is_removed(self) -> bool:
        return self.left is None or self.left <= REMOVED


@dataclass(frozen=True, slots=True)
class ScanCalibration:
    """The calibration of a scan on benign shadow victims, and how often the scan errs on them.

    ``flagged``: how many of the ``shadows`` are flagged in leave-one-out tests at the ratio ``tested_ratio``.
    ``differs``: settings of data set and recipe that differ from those of the scanned victims.
    """

    name: str
    shadows: int
    ratio: float
    tested_ratio: float
    flagged: int
    differs: tuple[str, ...]

    @property
    def highest(self) -> float:
        """Upper end of the one-sided 95% interval of the false-positive rate (Clopper and Pearson 1934)."""
        return upper_bound(self.flagged, self.shadows)


def calibrations(study: Study) -> Iterator[ScanCalibration]:
    """The calibration of every scan of the experiment that has one, for each data set and model."""
    scanned = ((scenario.elimination, scenario.dataset, scenario.model) for scenario in scenarios(study.experiment))
    for elimination, dataset, model in dict.fromkeys(scanned):
        settings = _settings(study, elimination, dataset, model)
        if settings is not None and settings.calibration_file is not None:
            calibration = read_json(settings.calibration_file)
            provenance, left_out = calibration["provenance"], calibration["leave_one_out"]
            calibrated = {**provenance.get("dataset", {}), **provenance.get("recipe", {})}
            current = {**study.variant("datasets", dataset), **study.victim_settings(model, dataset)}
            shadows = len(provenance["shadows"])
            yield ScanCalibration(
                name=str(settings.calibration),
                shadows=shadows,
                ratio=settings.ratio,
                tested_ratio=left_out["ratio"],
                flagged=round(left_out["false_positive_rate"] * shadows),
                differs=tuple(key for key in sorted(calibrated) if current.get(key) != calibrated[key]),
            )


def _settings(study: Study, elimination: str, dataset: str, model: str) -> CalibratedSettings | None:
    """The settings of an elimination whose scan can be calibrated, for one data set and model."""
    if elimination == NONE:
        return None
    kind = study.settings_class("eliminations", elimination)
    if not issubclass(kind, CalibratedSettings):
        return None
    return kind.model_validate(study.variant("eliminations", elimination)).for_scenario(dataset, model)


def verdicts(study: Study, out: Path) -> Iterator[ScanVerdict]:
    """The verdict of every elimination of the experiment that inverts triggers, each once."""
    visited = set()
    for scenario in scenarios(study.experiment):
        path = scenario.victim(out) / "trigger.json"
        if scenario.elimination == NONE or path in visited:
            continue
        visited.add(path)
        trigger = read_json(path)
        if trigger is not None:
            yield replace(verdict(study, scenario, trigger, out), seconds=_seconds(path.parent))


def _seconds(folder: Path) -> float:
    """Duration of all phases of an elimination, including reused ones; the only value that differs between runs."""
    job = read_json(folder / "provenance.json")
    return float(sum(job["phases"].values()) if job.get("phases") else job["seconds"])


def verdict(study: Study, scenario: Scenario, trigger: Mapping[str, Any], out: Path) -> ScanVerdict:
    """The verdict in ``trigger.json``, the truth, and the backdoor that remains after the elimination."""
    attack = None if scenario.attack == NONE else study.variant("attacks", scenario.attack)
    predicts_label = study.head(scenario.dataset).predicts_label
    unit, key = ("label", "target_label") if predicts_label else ("word", "target_word")
    truth = CLEAN_VICTIM if attack is None else f"{unit} {attack[key]}"
    result = f"{unit} {trigger.get(key)}" if trigger["flagged"] else CLEAN_VICTIM
    right: bool | None = result == truth
    if not predicts_label and study.variant("eliminations", scenario.elimination).get("target_word") is not None:
        right = None
    elif not predicts_label and attack is not None and trigger["flagged"]:
        # a scan inverts a few words together, which have to contain the attacked one
        right = holds(str(trigger.get(key)), str(attack[key]))
    return ScanVerdict(
        victim=labels.victim(scenario),
        defense=labels.word(scenario.elimination),
        truth=truth,
        verdict=result,
        right=right,
        position=str(trigger["position"]).replace("_", " "),
        trigger=str(trigger["text"]),
        loss=float(trigger["loss"]),
        margin=trigger["margin"],
        scans=_scans(read_json(scenario.victim(out) / "elimination.json").get("rounds")),
        left=_remaining_flip_rate(study, scenario, out),
    )


def _scans(rounds: Sequence[Mapping[str, Any]] | None) -> str | None:
    """The number of scans of a method that scans again after unlearning, and whether the last one still flags."""
    if not rounds:
        return None
    return f"{len(rounds)}, the last {'still flags' if rounds[-1]['flagged'] else 'clean'}"


def _remaining_flip_rate(study: Study, scenario: Scenario, out: Path) -> float | None:
    """The flip rate of the edited victim, without a purification, with the trigger that it was attacked with."""
    unpurified = replace(scenario, purification=NONE)
    if scenario.attack == NONE or unpurified not in scenarios(study.experiment):
        return None
    metrics = testsets(unpurified.results(out) / "metrics.json")[scenario.attack]["metrics"]
    value = metrics.get("flip_rate", {}).get("value")
    return None if value is None else float(value)
