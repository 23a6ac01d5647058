"""The clean samples of an inversion: equally many of each label, cut at every position that is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from codebackdoor.defenses.elimination.inversion.carriers import Carrier
from codebackdoor.defenses.elimination.inversion.position import carriers, seeded
from codebackdoor.defenses.elimination.inversion.settings import InversionSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import Example
from codebackdoor.victims.victim import Victim

#: Number of short samples to draw from per sample of the inversion, since some lack an identifier at some position.
ENOUGH = 2
#: Stands for the single association of a retrieval victim, which has no labels.
ASSOCIATION = 0


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one label, cut at each position; None for a sample without a first statement."""

    examples: tuple[Example, ...]
    carriers: Mapping[str, tuple[Carrier | None, ...]]


def labels_of(victim: Victim) -> Sequence[int]:
    """The labels that are scanned; a dual encoder has one association to be found."""
    return [ASSOCIATION] if HEADS[victim.head].ranks else range(victim.model.config.num_labels)


def draw(view: DefenderView, settings: InversionSettings, labels: Sequence[int], seed: int) -> dict[int, Samples]:
    """Draw ``settings.samples`` clean samples of each label that have an identifier at every position of the search.

    Draws fewer if there are no more, and raises UserError if there are none of a label. If too few are within
    ``sample_tokens``, it draws from the shortest ones.
    """
    return {label: _of_label(view, settings, label, seed) for label in labels}


def _of_label(view: DefenderView, settings: InversionSettings, label: int, seed: int) -> Samples:
    ranks = HEADS[view.victim.head].ranks
    pool = [example for example in view.clean if ranks or example.label == label]
    if settings.sample_tokens is not None:
        pool = _short(view, pool, settings.sample_tokens, ENOUGH * settings.samples)
    order = numpy_generator(seed, "elibadcode", "samples", str(label)).permutation(len(pool))
    drawn: list[Example] = []
    cuts: dict[str, list[Carrier | None]] = {position: [] for position in settings.positions}
    # samples need no first statement if identifiers are searched as well: searching statements, too, must not change
    # the samples of the other positions
    needed = [position for position in settings.positions if position != "statement"] or settings.positions
    for start in range(0, len(pool), settings.samples):
        chunk = [pool[index] for index in order[start : start + settings.samples]]
        columns = [
            carriers(view, chunk, seeded(position, seed), settings.occurrences, settings.pair)
            for position in settings.positions
        ]
        for example, *row in zip(chunk, *columns, strict=True):
            by_position = dict(zip(settings.positions, row, strict=True))
            if len(drawn) < settings.samples and all(by_position[position] for position in needed):
                drawn.append(example)
                for position, carrier in by_position.items():
                    cuts[position].append(carrier)
        if len(drawn) == settings.samples:
            break
    if not all(any(column) for column in cuts.values()):
        raise UserError(f"no clean sample of label {label} has a place for a trigger at position: {settings.position}")
    return Samples(tuple(drawn), {position: tuple(column) for position, column in cuts.items()})


def _short(view: DefenderView, examples: Sequence[Example], limit: int, count: int) -> list[Example]:
    """The samples whose longest text has at most ``limit`` sub-tokens, in their order; at least the ``count`` shortest
    ones, so that a data set of long functions has samples, too."""
    longest = [max(len(text.ids) for text in texts) for texts in view.victim.tokenize(examples)]
    limit = max([limit, *sorted(longest)[:count][-1:]])
    return [example for example, tokens in zip(examples, longest, strict=True) if tokens <= limit]


def carriers_of_other_labels(samples: Mapping[int, Samples], position: str, label: int) -> tuple[Carrier, ...]:
    """The samples of the other labels, alternating between labels, so that the first ones are as mixed as all."""
    columns = (drawn.carriers[position] for drawn_label, drawn in samples.items() if drawn_label != label)
    return tuple(carrier for row in zip_longest(*columns) for carrier in row if carrier is not None)
