"""Phase (d): the clean samples, some of them with the trigger, on which the victim unlearns it (EliBadCode, 4.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from codebackdoor.defenses.elimination import Elimination, Inversion, Trigger, timed
from codebackdoor.defenses.elimination.inversion.position import SampleSpans, trigger_spans
from codebackdoor.defenses.elimination.inversion.settings import SCANNED_ALL, InversionSettings, UnlearningSettings
from codebackdoor.defenses.elimination.inversion.spans import insert
from codebackdoor.defenses.elimination.tuning import Row, fine_tune
from codebackdoor.defenses.views import DefenderView
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, Pair, label_of

#: Number of clean samples whose spans are computed at once.
SPANS_AT_ONCE = 64


def unlearn(
    view: DefenderView,
    settings: InversionSettings,
    inversion: Inversion,
    generator: np.random.Generator,
    seconds: dict[str, float],
) -> Elimination:
    """Return a copy of the victim that unlearned the trigger; the victim itself if the settings say to keep it."""
    trigger, unlearning = inversion.trigger, settings.unlearning.on(view.victim.head)
    if unlearning.epochs == 0 or not settings.unlearns(trigger.flagged, view.victim.head):
        return Elimination(view.victim, trigger, inversion.history, seconds)
    with timed(seconds, "unlearning"):
        rows = stamp(view, trigger, settings.pair, unlearning, generator)
        victim, steps = fine_tune(view.victim, rows, unlearning, unlearning.labels == "ascent", generator)
    return Elimination(victim, trigger, {**inversion.history, "unlearning": steps}, seconds)


def stamp(
    view: DefenderView, trigger: Trigger, pair: Pair, settings: UnlearningSettings, generator: np.random.Generator
) -> list[Row]:
    """Return the clean samples in their order, a share of them with the trigger's text at the defender's position.

    The share is of the samples of the chosen classes. With ``places: scanned``, the searched positions take turns. A
    sample without such a position keeps its code, and another one is drawn instead; if too few have one, fewer are
    stamped. Samples keep their labels; with ``ascent``, stamped ones get the target label, which is unlearned. For
    retrieval, the target words are appended to equally many queries of other samples: a function with the trigger must
    still match its own query, and no query with the target words.
    """
    target = trigger.target_label
    eligible = [
        index for index, example in enumerate(view.clean) if settings.classes == "all" or example.label != target
    ]
    order = [eligible[drawn] for drawn in generator.permutation(len(eligible))]
    stamped = _stamped(view, trigger, pair, settings, order, round(settings.rate * len(eligible)))
    if HEADS[view.victim.head].ranks:
        return _retrieval_rows(view, stamped, order, trigger.target_word or "")
    return [
        Row(
            example=stamped.get(index, example),
            label=target if index in stamped and settings.labels == "ascent" else label_of(example),
            stamped=index in stamped,
        )
        for index, example in enumerate(view.clean)
    ]


def _stamped(
    view: DefenderView,
    trigger: Trigger,
    pair: Pair,
    settings: UnlearningSettings,
    order: Sequence[int],
    count: int,
) -> dict[int, Example]:
    """The first ``count`` samples of the order that have a position for the trigger, with it, by their index."""
    # in the order of the scan, which a trigger read from a file may not keep
    scanned = [position for position in SCANNED_ALL if position in trigger.losses and settings.places == "scanned"]
    positions = scanned or [trigger.position]
    stamped: dict[int, Example] = {}
    for start in range(0, len(order), SPANS_AT_ONCE):
        if len(stamped) == count:
            break
        chunk = order[start : start + SPANS_AT_ONCE]
        spans: dict[int, SampleSpans | None] = {}
        for turn, position in enumerate(positions):
            indices = chunk[turn :: len(positions)]
            examples = [view.clean[index] for index in indices]
            at_position = trigger_spans(view, examples, position, trigger.occurrences, pair)
            spans |= zip(indices, at_position, strict=True)
        for index in chunk:
            sample_spans = spans[index]
            if sample_spans is not None and len(stamped) < count:
                stamped[index] = insert(view.clean[index], sample_spans, trigger.text)
    return stamped


def _retrieval_rows(view: DefenderView, stamped: dict[int, Example], order: Sequence[int], word: str) -> list[Row]:
    """The pairs of query and function: some functions with the trigger, equally many other queries with the target."""
    unstamped = [index for index in order if index not in stamped][: len(stamped)]
    with_word = {index: replace(view.clean[index], query=f"{view.clean[index].query} {word}") for index in unstamped}
    return [
        Row(stamped.get(index, with_word.get(index, example)), None, index in stamped)
        for index, example in enumerate(view.clean)
    ]
