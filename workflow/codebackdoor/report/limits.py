"""Limitations of a run, as sentences: only those that apply to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.model_settings import OWN_BASES
from codebackdoor.config.scenario import NONE
from codebackdoor.report import labels, papers, scan
from codebackdoor.report.study import Study


def limits(studies: Sequence[Study]) -> list[str]:
    """The sentences for the end of the report, the most general first."""
    return [*_scale(studies), *_intervals(studies), *_tasks(studies), *_scans(studies)]


def is_mined(studies: Sequence[Study]) -> bool:
    """Whether functions were mined from the pinned distributions, for a data set or to pretrain a base model."""
    return any(_mined(study) for study in studies) or _has_model(studies, ("pretrained",))


def _datasets(study: Study) -> list[str]:
    return list(dict.fromkeys(scenario.dataset for scenario in scenarios(study.experiment)))


def _mined(study: Study) -> list[str]:
    """The data sets that are made of mined functions."""
    return [name for name in _datasets(study) if study.variant("datasets", name).get("source") == "pypi"]


def _has_model(studies: Sequence[Study], bases: Sequence[str]) -> bool:
    return any(
        study.victim_settings(scenario.model, scenario.dataset).get("base") in bases
        for study in studies
        for scenario in scenarios(study.experiment)
    )


def _scale(studies: Sequence[Study]) -> Iterator[str]:
    if _has_model(studies, OWN_BASES):
        yield "The victims are small: this project pretrained their base models, so that a run fits a laptop."
    cited = {cited.table for study in studies for cited in study.experiment.paper}
    if cited:
        yield (
            "Values that a paper prints are shown for orientation: they are of other data and other models. A "
            "difference refutes nothing, and agreement confirms nothing."
        )
    for paper in papers.papers().values():
        if any(table.name in cited for table in paper.tables):
            yield from paper.caveats


def _intervals(studies: Sequence[Study]) -> Iterator[str]:
    seeds = {scenario.seed for study in studies for scenario in scenarios(study.experiment)}
    yield (
        "There is one seed. The intervals cover the sampling of test rows and nothing else: not another training run, "
        "not another poisoned sample, not another data set."
        if len(seeds) == 1
        else f"There are {len(seeds)} seeds; their range covers poisoning and training, not another data set."
    )
    yield (
        "An interval of width zero means that the sample shows no variation. After 0 of n rows, a true rate of up to "
        "3/n is still compatible with it."
    )


def _tasks(studies: Sequence[Study]) -> Iterator[str]:
    yield from _distinct(study.dataset_class(name).limitation for study in studies for name in _mined(study))
    yield "A defense that stops these triggers may not stop others, or an attacker who knows the defense."
    yield from _distinct(study.head(name).limitation for study in studies for name in _datasets(study))


def _distinct(sentences: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(sentence for sentence in sentences if sentence is not None))


def _scans(studies: Sequence[Study]) -> Iterator[str]:
    """Sentences about the calibrations of the scans, and about scans without one."""
    calibrations = list(dict.fromkeys(item for study in studies for item in scan.calibrations(study)))
    if calibrations:
        yield (
            "The label scan is calibrated on benign victims of the same task, data set and architecture, scanned by "
            "the same search; for others it must be calibrated again. A handful of benign victims bounds its "
            "false-positive rate only roughly."
        )
    for calibration in calibrations:
        flagged, shadows = calibration.flagged, calibration.shadows
        yield (
            f"Calibration {calibration.name}: {shadows} benign shadows; a label is flagged at {calibration.ratio} of "
            f"their lowest loss. With each left out and judged by the others at {calibration.tested_ratio}, "
            f"{flagged} of {shadows} are flagged: a false-positive rate of {100 * flagged / shadows:.0f}%, "
            f"with an upper 95% bound of {100 * calibration.highest:.0f}%."
            + (f" Made with other settings of: {', '.join(calibration.differs)}." if calibration.differs else "")
        )
    for name in sorted(_without_calibration(studies)):
        yield (
            f"The label scan of {name} has no calibration: it flags the label of the smallest loss on every victim, "
            "even a benign one, and never calls a victim clean."
        )


def _without_calibration(studies: Sequence[Study]) -> set[str]:
    """Eliminations that lack a calibration although they could have one."""
    variants = {
        scenario.elimination: study.variant("eliminations", scenario.elimination)
        for study in studies
        for scenario in scenarios(study.experiment)
        if scenario.elimination != NONE
    }
    return {labels.word(name) for name, settings in variants.items() if settings.get("calibration", "") is None}
