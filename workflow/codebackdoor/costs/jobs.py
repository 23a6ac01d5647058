"""The work of each kind of job: the part that is the same for all methods of its kind, and what the method adds.

Raises NotPriced if the settings of a method do not state its work.
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
    Work,
    priced,
    weights,
)
from codebackdoor.heads import HEADS

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyAttack, AnyElimination, AnyFiltering, AnyObjective, AnyPurification
    from codebackdoor.defenses.elimination.inversion.settings import InversionSettings


def data(victim: PlannedVictim) -> Work:
    """Writing the rows of all splits of a data set."""
    return _written(victim, sum(victim.rows(split) for split in ("train", "clean", "valid", "test")))


def poison(victim: PlannedVictim, attack: AnyAttack, rate: float, crafting: PlannedVictim | None = None) -> Work:
    """Making the poisoned training rows and the triggered sets."""
    sets = [victim.triggered(split, attack) for split in ("valid", "test")]
    share = victim.texts.rows.without(attack.target_label) if attack.rate_of == "eligible" else 1.0
    injected = rate * share * victim.rows("train") + _rows(sets)
    output = _written(victim, victim.rows("train") + _rows(sets))
    return output + priced(attack.work(PoisoningJob(victim, injected, crafting)))


def filtering(
    language_model: ModelSize, victim: PlannedVictim, settings: AnyFiltering, attack: AnyAttack | None, rate: float
) -> Work:
    """Filtering a training set, every row of which the method reads."""
    rows = victim.rows("train")
    distinct = replace(victim.clean("train"), rows=(1 - rate) * rows).distinct
    if attack is not None:
        distinct += replace(victim.triggered("train", attack), rows=rate * rows).distinct
    return priced(settings.work(FilteringJob(victim, distinct, language_model))) + _written(victim, rows)


def train(victim: PlannedVictim, attack: AnyAttack | None, objective: AnyObjective | None = None) -> Work:
    """All epochs, each with its validation: loss on all rows, predictions on all or on the first ``history_rows``.

    Without ``objective``, the loss is cross entropy. A checkpoint of another training only has to be written.
    """
    if objective is not None and objective.taken_checkpoint is not None:
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
    of_objective = Work() if objective is None else priced(objective.work(victim))
    kept_epochs = recipe.epochs if objective is not None and objective.keeps_epochs else 0
    megabytes = weights(victim.size, BYTES[recipe.weights]) + kept_epochs * stored_megabytes(victim.size, recipe)
    return epochs + of_objective + Work(megabytes=megabytes)


def eliminate(victim: PlannedVictim, settings: AnyElimination, inverted: bool = False) -> Work:
    """Editing a victim; ``inverted``: the trigger is reused from another elimination."""
    edit = priced(settings.work(EliminationJob(victim, inverted)))
    return edit + Work(megabytes=weights(victim.size))


def invert(victim: PlannedVictim, settings: InversionSettings) -> Work:
    """Only the search of a method that inverts triggers."""
    return priced(settings.search_work(victim))


def predict(victim: PlannedVictim, row_sets: Sequence[RowSet]) -> Work:
    predictions = sum((victim.predictions(row_set) for row_set in row_sets), Work())
    bytes_of_row = 63 + (victim.texts.kilobytes * 500 if victim.targets else 0)
    return predictions + Work(megabytes=_rows(row_sets) * bytes_of_row / 1e6)


def suspect(
    victim: PlannedVictim, settings: AnyPurification, row_sets: Sequence[RowSet], language_model: ModelSize
) -> Work:
    """The measurements of a purification on the test sets and on the rows of its calibration."""
    return priced(settings.work(PurificationJob(victim, row_sets, language_model)))


def purify(
    victim: PlannedVictim,
    settings: AnyPurification,
    row_sets: Sequence[RowSet],
    language_model: ModelSize,
    measured: bool = False,
) -> Work:
    """Rewriting the test sets and predicting on them; ``measured``: the evidence already exists."""
    size = _rows(row_sets) * (victim.texts.kilobytes * 1000 + 150 + 40 * victim.texts.elements)
    evidence = Work() if measured else suspect(victim, settings, row_sets, language_model)
    return evidence + predict(victim, row_sets) + Work(megabytes=size / 1e6)


def rewrite(language_model: ModelSize, victim: PlannedVictim, settings: AnyPurification, row_set: RowSet) -> Work:
    """Rewriting a test set once for all victims."""
    size = row_set.rows * (victim.texts.kilobytes * 1000 + 150)
    return priced(settings.work(PurificationJob(victim, [row_set], language_model))) + Work(megabytes=size / 1e6)


def _rows(row_sets: Sequence[RowSet]) -> float:
    return sum(row_set.rows for row_set in row_sets)


def _written(victim: PlannedVictim, rows: float) -> Work:
    return Work(megabytes=rows * (victim.texts.kilobytes * 1000 + 75) / 1e6)
