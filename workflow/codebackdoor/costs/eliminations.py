"""The work of the eliminations: searches for triggers, and fine-tuning on clean samples."""

from __future__ import annotations

import math

from codebackdoor.config.base import Settings
from codebackdoor.costs.work import EliminationJob, PlannedVictim, Work
from codebackdoor.defenses.elimination.dbs.settings import DbsSettings
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.fine_tuning.settings import FineTuningSettings
from codebackdoor.defenses.elimination.settings import TuningSettings
from codebackdoor.heads import HEADS


def work(settings: Settings, job: EliminationJob) -> Work | None:
    """What an elimination adds to the weights that it writes; of other methods what their settings say."""
    if isinstance(settings, FineTuningSettings):
        return _fine_tuning(job.victim, settings.on(job.victim.dataset.head))
    if isinstance(settings, EliBadCodeSettings | DbsSettings):
        unlearning = settings.unlearning.on(job.victim.dataset.head)
        stamped = unlearning.rate * job.victim.rows("clean") if _learns(unlearning) else 0
        return _fine_tuning(job.victim, unlearning) + _search(job.victim, settings, job.inverted, stamped)
    return settings.work(job)


def search(settings: Settings, job: EliminationJob) -> Work | None:
    """The search alone of a method that inverts triggers, for every label at every place with its whole budget."""
    return (
        _search(job.victim, settings) if isinstance(settings, EliBadCodeSettings | DbsSettings) else settings.work(job)
    )


def _search(
    victim: PlannedVictim, settings: EliBadCodeSettings | DbsSettings, inverted: bool = False, stamped: float = 0
) -> Work:
    """Every candidate counts as scored on all samples; a search that drops hopeless candidates early needs less.

    ``stamped``: samples that get the trigger for unlearning, whose positions are looked for as well.
    """
    samples = settings.samples * max(1, victim.labels - 1)
    scored, searches = 0, victim.labels * len(settings.positions)
    if isinstance(settings, EliBadCodeSettings):
        scored, searches = settings.candidates * samples, searches * settings.restarts
        if settings.race is not None and settings.race < samples:
            best = math.ceil(settings.candidates / 8)
            scored = settings.candidates * settings.race + best * (samples - settings.race)
    # the gradient goes back to the embeddings and to no weight: it costs a second forward pass
    steps = 0 if inverted else searches * settings.iterations
    if isinstance(settings, EliBadCodeSettings) and settings.rounds > 1:
        # the scan after an unlearning; seldom is more than one trigger unlearned
        steps += searches * settings.iterations
    searched = steps * (scored + 2 * samples) * victim.row(settings.sample_tokens or math.inf)
    positioned = 0.0
    # the function's name and a random identifier are found without the victim, all others by their sensitivity
    if not {"function_name", "random"}.issuperset(settings.positions):
        drawn = 0 if inverted else victim.labels * settings.samples
        positioned = (drawn + stamped) * (1 + victim.texts.places) * victim.forward
    return Work(predicted=searched + positioned)


def _learns(settings: TuningSettings) -> bool:
    return settings.epochs > 0 and settings.learning_rate > 0


def _fine_tuning(victim: PlannedVictim, settings: TuningSettings) -> Work:
    """On the clean samples, with the accuracy before and after; inputs of an only trained last layer are read once."""
    if not _learns(settings):
        return Work()
    epoch = victim.rows("clean") * victim.forward
    if settings.layers == "all":
        passes = 3 * settings.epochs
    else:
        passes = settings.epochs if settings.dropout or HEADS[victim.dataset.head].ranks else 1
    # in float32, at the rate of predictions
    return Work(predicted=(2 + passes) * epoch)
