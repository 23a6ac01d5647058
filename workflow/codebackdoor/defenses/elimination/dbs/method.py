"""DBS: trigger inversion by dynamic bound scaling, then EliBadCode's unlearning (Shen et al. 2022).

Vocabulary and unlearning are EliBadCode's (its section 5.1); a label is flagged as the target where its trigger reaches
a loss under a fixed bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codebackdoor.defenses.elimination import NO_CONTEXT, Elimination, Inversion, SearchContext, Trigger, timed
from codebackdoor.defenses.elimination.dbs.search import DbsStep, MixtureSearch
from codebackdoor.defenses.elimination.dbs.settings import DbsSettings
from codebackdoor.defenses.elimination.inversion import reuse
from codebackdoor.defenses.elimination.inversion.candidates import contexts
from codebackdoor.defenses.elimination.inversion.loss import CrossEntropyLoss
from codebackdoor.defenses.elimination.inversion.position import seeded
from codebackdoor.defenses.elimination.inversion.samples import carriers_of_other_labels, draw
from codebackdoor.defenses.elimination.inversion.unlearning import unlearn
from codebackdoor.defenses.elimination.inversion.vocabulary import build, encode
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.seeding import derive, numpy_generator


@dataclass(frozen=True, slots=True)
class RoundedTrigger:
    """The trigger of one label at one position: its text, the loss of that text, and how the search went.

    ``accepted``: the mixture that it was rounded from was near single pieces and under the barrier. ``history`` holds
    the loss of the mixture, the temperature and the barrier of every step.
    """

    label: int
    position: str
    text: str
    loss: float
    accepted: bool
    history: tuple[DbsStep, ...]

    @property
    def rank(self) -> tuple[bool, float]:
        """Accepted triggers first, then by loss."""
        return not self.accepted, self.loss


def eliminate(view: DefenderView, settings: DbsSettings, seed: int, context: SearchContext = NO_CONTEXT) -> Elimination:
    """Invert a trigger for every label; return a copy of the victim that unlearned the one with the lowest loss.

    Raises UserError for a victim that is not a classifier, for clean samples without labels, and for a trigger of
    another search.
    """
    if not HEADS[view.victim.head].predicts_label:
        raise UserError("DBS tries every label as the target; this victim has none")
    seconds: dict[str, float] = {}
    inversion = context.earlier
    if inversion is None:
        with timed(seconds, "inversion"):
            inversion = _invert(view, settings, seed)
    else:
        reuse.check_same_search(inversion.history, settings, seed)
    return unlearn(view, settings, inversion, numpy_generator(seed, "dbs", "unlearning"), seconds)


def _invert(view: DefenderView, settings: DbsSettings, seed: int) -> Inversion:
    triggers = _scan(view, settings, seed)
    best = min(triggers, key=lambda trigger: trigger.rank)
    history: dict[str, object] = {
        "task": view.task,
        "search": reuse.search_of(settings, seed),
        "searches": [
            {"place": trigger.position, "label": trigger.label, "trigger": trigger.text, "accepted": trigger.accepted}
            | {name: [getattr(step, name) for step in trigger.history] for name in DbsStep._fields}
            for trigger in triggers
        ],
    }
    return Inversion(_trigger(view, best, triggers, settings, seed), history)


def _scan(view: DefenderView, settings: DbsSettings, seed: int) -> list[RoundedTrigger]:
    labels = range(view.victim.model.config.num_labels)
    samples = draw(view, settings, labels, seed)
    triggers = []
    for position in settings.positions:
        for label in labels:
            carriers = carriers_of_other_labels(samples, position, label)
            rule = settings.vocabulary_at(position)
            vocabulary = build(view.victim.tokenizer, rule, view.language, contexts(carriers))
            search_seed = derive(seed, "dbs", position, str(label))
            search = MixtureSearch(view.victim, carriers, vocabulary, CrossEntropyLoss(label), settings, search_seed)
            text, loss, accepted = search.run(f"invert label {label} at {position}")
            triggers.append(RoundedTrigger(label, position, text, loss, accepted, tuple(search.history)))
    return triggers


def _trigger(
    view: DefenderView, best: RoundedTrigger, triggers: Sequence[RoundedTrigger], settings: DbsSettings, seed: int
) -> Trigger:
    ids = tuple(encode(view.victim.tokenizer, [best.text], spaced=True)[0])
    losses: dict[str, dict[str, float]] = {}
    for trigger in triggers:
        losses.setdefault(trigger.position, {})[str(trigger.label)] = trigger.loss
    return Trigger(
        text=best.text,
        token_ids=ids,
        target_label=best.label,
        flagged=best.accepted and best.loss <= settings.flag_below,
        position=seeded(best.position, seed),
        occurrences=settings.occurrences,
        loss=best.loss,
        inverted_text=best.text,
        inverted_ids=ids,
        inverted_loss=best.loss,
        margin=None,
        losses=losses,
    )
