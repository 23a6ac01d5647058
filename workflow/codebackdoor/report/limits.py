"""What a run does not show, as sentences: only those that are about what it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.scenario import NONE
from codebackdoor.report import labels, scan
from codebackdoor.report.collect import Study

#: Bases of victims that this project has pretrained itself.
_SMALL = ("shipped", "pretrained")


def limits(studies: Sequence[Study]) -> list[str]:
    """For the end of the report, the most general first."""
    return [*_scale(studies), *_intervals(studies), *_tasks(studies), *_scans(studies)]


def is_mined(studies: Sequence[Study]) -> bool:
    """Whether functions were read from the pinned distributions: for a data set, or to pretrain a base model."""
    return any(_values(studies, "datasets", "source", "pypi")) or any(_values(studies, "models", "base", "pretrained"))


def _values(studies: Sequence[Study], section: str, key: str, *values: str) -> Iterator[str]:
    """Names of the variants of data sets or models that are used and have one of these values."""
    kind = section.removesuffix("s")
    for study in studies:
        for name in dict.fromkeys(getattr(scenario, kind) for scenario in scenarios(study.experiment)):
            if study.variant(section, name).get(key) in values:
                yield name


def _scale(studies: Sequence[Study]) -> Iterator[str]:
    if any(_values(studies, "models", "base", *_SMALL)):
        yield "Numbers of a run at local scale are those of small victims, whose base models this project pretrained."
    if any(study.experiment.paper for study in studies):
        yield (
            "What a paper prints stands beside for orientation: other data and other models. A difference between the "
            "two is no refutation, and agreement is no confirmation."
        )
        yield (
            "The papers print an ASR without its floor, and some of theirs lie below the floor of any model of that "
            "accuracy. Compare flip rates, and ASR with its floor; docs/fidelity.md says more (A1, A2)."
        )


def _intervals(studies: Sequence[Study]) -> Iterator[str]:
    seeds = {scenario.seed for study in studies for scenario in scenarios(study.experiment)}
    yield (
        "There is one seed. The intervals cover the drawing of test rows and nothing else: not another training run, "
        "not another poisoned sample, not another data set."
        if len(seeds) == 1
        else f"There are {len(seeds)} seeds; their range covers poisoning and training, not another data set."
    )
    yield (
        "An interval of no width says that the sample shows no variation. After 0 of n rows, a true rate of up to 3/n "
        "is still compatible with it."
    )


def _tasks(studies: Sequence[Study]) -> Iterator[str]:
    tasks = {study.task(name) for study in studies for name in _values(studies, "datasets", "source", "pypi")}
    if tasks & {"defect_detection", "code_repair"}:
        yield (
            "Injected defects are not the defects that people make; detecting them is easier and harder in its own "
            "ways."
        )
    yield "A defense that stops these triggers is not shown to stop others, nor an attacker who knows the defense."
    if any(_values(studies, "datasets", "task", "code_repair")):
        yield "For generated code, the target is one behavior, decided on syntax. Other harm is not looked for."


def _scans(studies: Sequence[Study]) -> Iterator[str]:
    """What a verdict rests on: its calibrations, or that there is none."""
    calibrations = list(dict.fromkeys(item for study in studies for item in scan.calibrations(study)))
    if calibrations:
        yield (
            "The label scan is calibrated on benign victims of the same task, data set and architecture, scanned by "
            "the same search; for others it must be calibrated again. A handful of them bounds its false alarms only "
            "roughly."
        )
    for calibration in calibrations:
        flagged, shadows = calibration.flagged, calibration.shadows
        yield (
            f"Calibration {calibration.name}: {shadows} benign shadows; a label is flagged at {calibration.ratio} of "
            f"their lowest loss. Each left out and judged by the others at {calibration.tried}, {flagged} of {shadows} "
            f"are flagged: a false-positive rate of {100 * flagged / shadows:.0f} %, with an upper 95 % bound of "
            f"{100 * calibration.highest:.0f} %."
            + (f" Made with other settings of: {', '.join(calibration.differs)}." if calibration.differs else "")
        )
    for name in sorted(_without_calibration(studies)):
        yield (
            f"The label scan of {name} has no calibration: it flags the label of the smallest loss on every victim, "
            'also on a benign one, and never says "clean".'
        )


def _without_calibration(studies: Sequence[Study]) -> set[str]:
    """Eliminations whose verdict could rest on a calibration and rests on none."""
    variants = {
        scenario.elimination: study.variant("eliminations", scenario.elimination)
        for study in studies
        for scenario in scenarios(study.experiment)
        if scenario.elimination != NONE
    }
    return {labels.word(name) for name, settings in variants.items() if settings.get("calibration", "") is None}
