"""The work of each kind of job: what any method of its kind costs there, and what this method adds.

NotPriced where the settings of a method do not say what it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from codebackdoor.costs.memory import BYTES, stored_megabytes
from codebackdoor.costs.work import (
    EliminationJob,
    FilteringJob,
    ModelSize,
    PlannedVictim,
    PoisoningJob,
    PurificationJob,
    RowSet,
    TrainingJob,
    Work,
    priced,
    weights,
)
from codebackdoor.heads import HEADS

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyAttack, AnyElimination, AnyFiltering, AnyObjective, AnyPurification
    from codebackdoor.defenses.elimination.inversion.settings import InversionSettings


def data(victim: PlannedVictim) -> Work:
    """Rows of a data set: all splits."""
    return _written(victim, sum(victim.rows(split) for split in ("train", "clean", "valid", "test")))


def poison(victim: PlannedVictim, attack: AnyAttack, rate: float, crafting: PlannedVictim | None = None) -> Work:
    """The poisoned training rows and the triggered sets."""
    sets = [victim.triggered(split, attack) for split in ("valid", "test")]
    share = victim.texts.rows.without(attack.target_label) if attack.rate_of == "eligible" else 1.0
    injected = rate * share * victim.rows("train") + _rows(sets)
    written = _written(victim, victim.rows("train") + _rows(sets))
    return written + priced(attack.work(PoisoningJob(victim, injected, crafting)))


def filtering(
    language_model: ModelSize, victim: PlannedVictim, settings: AnyFiltering, attack: AnyAttack | None, rate: float
) -> Work:
    """A training set of which some rows are dropped: the method reads every one."""
    rows = victim.rows("train")
    read = replace(victim.clean("train"), rows=(1 - rate) * rows).distinct
    if attack is not None:
        read += replace(victim.triggered("train", attack), rows=rate * rows).distinct
    return priced(settings.work(FilteringJob(victim, read, language_model))) + _written(victim, rows)


def train(victim: PlannedVictim, attack: AnyAttack | None, objective: AnyObjective | None = None) -> Work:
    """All epochs, each with its validation: loss on all rows, predictions on all or on the first ``history_rows``.

    Without ``objective`` the loss is cross entropy. A checkpoint of another training is only written.
    """
    if getattr(objective, "checkpoint", None) is not None:
        return Work(megabytes=weights(victim.size, BYTES[victim.model.weights]))
    recipe = victim.model if objective is None else objective.recipe.applied(victim.model)
    clean = victim.clean("valid")
    triggered = RowSet(0) if attack is None else victim.triggered("valid", attack)
    if HEADS[victim.dataset.head].generates:
        outputs = sum(min(recipe.history_rows, row_set.rows) for row_set in (clean, triggered))
        validation = Work(predicted=clean.rows * victim.forward) + victim.predictions(RowSet(outputs))
    else:
        validation = victim.predictions(clean) + victim.predictions(triggered)
    epoch = Work(3 * victim.rows("train") * victim.forward) + validation
    epochs = Work(recipe.epochs * epoch.trained, recipe.epochs * epoch.predicted, recipe.epochs * epoch.steps)
    added = Work() if objective is None else priced(objective.work(TrainingJob(victim)))
    kept = recipe.epochs if getattr(objective, "keep_epochs", False) else 0
    written = weights(victim.size, BYTES[recipe.weights]) + kept * stored_megabytes(victim.size, recipe)
    return epochs + added + Work(megabytes=written)


def eliminate(victim: PlannedVictim, settings: AnyElimination, inverted: bool = False) -> Work:
    """The edited victim; ``inverted``: the trigger is reused from another elimination."""
    edit = priced(settings.work(EliminationJob(victim, inverted)))
    return edit + Work(megabytes=weights(victim.size))


def invert(victim: PlannedVictim, settings: InversionSettings) -> Work:
    """The search alone of a method that inverts triggers."""
    return priced(settings.search_work(victim))


def predict(victim: PlannedVictim, row_sets: Sequence[RowSet]) -> Work:
    predictions = sum((victim.predictions(row_set) for row_set in row_sets), Work())
    bytes_of_row = 63 + (victim.texts.kilobytes * 500 if victim.targets else 0)
    return predictions + Work(megabytes=_rows(row_sets) * bytes_of_row / 1e6)


def suspect(
    victim: PlannedVictim, settings: AnyPurification, row_sets: Sequence[RowSet], language_model: ModelSize
) -> Work:
    """What a purification measures on the test sets and on the rows of its calibration."""
    return priced(settings.work(PurificationJob(victim, row_sets, language_model)))


def purify(
    victim: PlannedVictim,
    settings: AnyPurification,
    row_sets: Sequence[RowSet],
    language_model: ModelSize,
    measured: bool = False,
) -> Work:
    """The rewritten test sets, and the victim's predictions on them; ``measured``: the evidence is there already."""
    size = _rows(row_sets) * (victim.texts.kilobytes * 1000 + 150 + 40 * victim.texts.elements)
    evidence = Work() if measured else suspect(victim, settings, row_sets, language_model)
    return evidence + predict(victim, row_sets) + Work(megabytes=size / 1e6)


def rewrite(language_model: ModelSize, victim: PlannedVictim, settings: AnyPurification, row_set: RowSet) -> Work:
    """A test set that is rewritten once for all victims."""
    size = row_set.rows * (victim.texts.kilobytes * 1000 + 150)
    return priced(settings.work(PurificationJob(victim, [row_set], language_model))) + Work(megabytes=size / 1e6)


def _rows(row_sets: Sequence[RowSet]) -> float:
    return sum(row_set.rows for row_set in row_sets)


def _written(victim: PlannedVictim, rows: float) -> Work:
    return Work(megabytes=rows * (victim.texts.kilobytes * 1000 + 75) / 1e6)
