"""Phase (d): the clean samples, some of them with the trigger, on which the victim unlearns (EliBadCode, 4.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from codebackdoor.config.eliminations import SCANNED_ALL, Dbs, EliBadCode, Unlearning
from codebackdoor.defenses.elimination import Elimination, Inverted, Trigger, timed
from codebackdoor.defenses.elimination.elibadcode.position import Places, places, put
from codebackdoor.defenses.elimination.last_layer import Row, fine_tune, label_of
from codebackdoor.defenses.views import DefenderView
from codebackdoor.types import Example, Pair

#: Clean samples whose places are looked for at a time.
CHUNK = 64


def unlearn(
    view: DefenderView,
    settings: EliBadCode | Dbs,
    inverted: Inverted,
    generator: np.random.Generator,
    seconds: dict[str, float],
) -> Elimination:
    """Return a copy of the victim that unlearned the trigger; the victim itself where nothing is flagged or learnt."""
    trigger, unlearning = inverted.trigger, settings.unlearning.on(view.victim.head)
    if unlearning.epochs == 0 or not settings.unlearns(trigger.flagged, view.victim.head):
        return Elimination(view.victim, trigger, inverted.history, seconds)
    with timed(seconds, "unlearning"):
        rows = stamp(view, trigger, settings.pair, unlearning, generator)
        victim, steps = fine_tune(view.victim, rows, unlearning, unlearning.labels == "ascent", generator)
    return Elimination(victim, trigger, {**inverted.history, "unlearning": steps}, seconds)


def stamp(
    view: DefenderView, trigger: Trigger, pair: Pair, settings: Unlearning, generator: np.random.Generator
) -> list[Row]:
    """Return the clean samples in their order, a share of them with the trigger's text at the defender's place.

    The share is of the samples of the chosen classes. Under ``places: scanned`` each of the places that were searched
    has its turn. A sample without such a place keeps its code and another is drawn for it; where too few have one,
    fewer are stamped. The label is the sample's own; under ``ascent`` it is the target's, which is unlearnt. For
    search, the target words are put behind as many queries of other samples: a function with the trigger must still
    answer its own query, and none of those with the target.
    """
    target = trigger.target_label
    eligible = [
        index for index, example in enumerate(view.clean) if settings.classes == "all" or example.label != target
    ]
    wanted = round(settings.rate * len(eligible))
    order = [eligible[drawn] for drawn in generator.permutation(len(eligible))]
    # in the order of the scan: that of a trigger's file is another
    scanned = [place for place in SCANNED_ALL if place in trigger.losses and settings.places == "scanned"]
    where = scanned or [trigger.position]
    stamped: dict[int, Example] = {}
    for start in range(0, len(order), CHUNK):
        if len(stamped) == wanted:
            break
        chunk = order[start : start + CHUNK]
        found: dict[int, Places | None] = {}
        for turn, position in enumerate(where):
            own = chunk[turn :: len(where)]
            examples = [view.clean[index] for index in own]
            found |= zip(own, places(view, examples, position, trigger.occurrences, pair), strict=True)
        for index in chunk:
            place = found[index]
            if place is not None and len(stamped) < wanted:
                stamped[index] = put(view.clean[index], place, trigger.text)
    if view.victim.head == "retrieval":
        return _search_rows(view, stamped, order, trigger.target_word or "")
    return [
        Row(
            example=stamped.get(index, example),
            label=target if index in stamped and settings.labels == "ascent" else label_of(example),
            stamped=index in stamped,
        )
        for index, example in enumerate(view.clean)
    ]


def _search_rows(view: DefenderView, stamped: dict[int, Example], order: Sequence[int], word: str) -> list[Row]:
    """The pairs of query and function: some functions with the trigger, as many other queries with the target."""
    others = [index for index in order if index not in stamped][: len(stamped)]
    asked = {index: replace(view.clean[index], query=f"{view.clean[index].query} {word}") for index in others}
    return [
        Row(stamped.get(index, asked.get(index, example)), None, index in stamped)
        for index, example in enumerate(view.clean)
    ]
