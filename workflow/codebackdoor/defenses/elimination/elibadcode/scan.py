"""The label scan: invert a trigger for every label and place, and say which is an outlier (EliBadCode, lines 36-44)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from codebackdoor.config.eliminations import EliBadCode, Inverting
from codebackdoor.defenses.elimination.elibadcode.inversion import Inversion, contexts, search
from codebackdoor.defenses.elimination.elibadcode.position import Carrier, carriers, seeded
from codebackdoor.defenses.elimination.elibadcode.resuming import Searches
from codebackdoor.defenses.elimination.elibadcode.shadows import Calibration, log_ratio
from codebackdoor.defenses.elimination.elibadcode.vocabulary import TriggerVocabulary, build
from codebackdoor.defenses.elimination.elibadcode.walks import NONE, Walks
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import Example
from codebackdoor.victims.progress import digest

#: Short samples to draw from, for each one wanted: not all of them have an identifier at every place.
ENOUGH = 2


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one label, cut at each place that is scanned; ``None`` where a sample has no first statement."""

    examples: tuple[Example, ...]
    carriers: Mapping[str, tuple[Carrier | None, ...]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One label at one place: what the walk from each start ended with, and the margin over benign victims."""

    label: int
    place: str
    carriers: tuple[Carrier, ...]
    vocabulary: TriggerVocabulary
    walks: tuple[Inversion, ...]
    margin: float | None = None

    @property
    def inversion(self) -> Inversion:
        """The walk that ended lowest."""
        return min(self.walks, key=lambda one: one.loss)


def draw(view: DefenderView, settings: Inverting, labels: Sequence[int], seed: int) -> dict[int, Samples]:
    """Draw ``settings.samples`` clean samples of each label that have an identifier at every place to be scanned.

    Fewer are used where the clean samples hold no more; none of a label is a UserError. Where too few are as short as
    ``sample_tokens``, the shortest ones are drawn from.
    """
    drawn: dict[int, Samples] = {}
    for label in labels:
        own = [example for example in view.clean if view.victim.head == "retrieval" or example.label == label]
        if settings.sample_tokens is not None:
            own = _short(view, own, settings.sample_tokens, ENOUGH * settings.samples)
        order = numpy_generator(seed, "elibadcode", "samples", str(label)).permutation(len(own))
        kept: list[Example] = []
        cuts: dict[str, list[Carrier | None]] = {place: [] for place in settings.places}
        # a body's first statement is scanned on the samples of the identifiers, so that a search there changes none
        # of theirs
        needed = [place for place in settings.places if place != "statement"] or settings.places
        for start in range(0, len(own), settings.samples):
            chunk = [own[index] for index in order[start : start + settings.samples]]
            columns = [
                carriers(view, chunk, seeded(place, seed), settings.occurrences, settings.pair)
                for place in settings.places
            ]
            for example, *row in zip(chunk, *columns, strict=True):
                by_place = dict(zip(settings.places, row, strict=True))
                if len(kept) < settings.samples and all(by_place[place] for place in needed):
                    kept.append(example)
                    for place, carrier in by_place.items():
                        cuts[place].append(carrier)
            if len(kept) == settings.samples:
                break
        if not all(any(row) for row in cuts.values()):
            raise UserError(
                f"EliBadCode: no clean sample of label {label} has a place for a trigger at position: "
                f"{settings.position}"
            )
        drawn[label] = Samples(tuple(kept), {place: tuple(found) for place, found in cuts.items()})
    return drawn


def _short(view: DefenderView, examples: Sequence[Example], limit: int, wanted: int) -> list[Example]:
    """The samples of at most ``limit`` sub-tokens in their longest text, in their order; at least the ``wanted``
    shortest ones, so that a data set of long functions has samples as well."""
    longest = [max(len(text.ids) for text in texts) for texts in view.victim.read(examples)]
    limit = max([limit, *sorted(longest)[:wanted][-1:]])
    return [one for one, found in zip(examples, longest, strict=True) if found <= limit]


def scan_labels(
    view: DefenderView,
    settings: EliBadCode,
    samples: Mapping[int, Samples],
    seed: int,
    work: Path | None = None,
    code: str | None = None,
    known: Walks = NONE,
) -> list[Finding]:
    """Invert a trigger for every candidate label at every place, on the samples of the other labels.

    What a killed scan has found is kept in the folder ``work`` and taken up by the next of the same ``code``, its
    fingerprint; ``known`` walks are not gone again.
    """
    texts = {label: [[example.code, example.code_b] for example in own.examples] for label, own in samples.items()}
    searches = Searches(work, digest(view.victim.model, settings.model_dump(mode="json"), seed, texts, code=code))
    findings: list[Finding] = []
    for place in settings.places:
        for label in samples:
            others = of_other_labels(samples, place, label)
            vocabulary = build(view.victim.tokenizer, settings.vocabulary_at(place), view.language, contexts(others))
            found = tuple(
                known.get((place, label, restart))
                or search(
                    view.victim,
                    others,
                    vocabulary,
                    label,
                    settings,
                    numpy_generator(seed, "elibadcode", "search", place, str(label), str(restart)),
                    title=f"invert label {label} at {place}, start {restart + 1}",
                    searches=searches,
                )
                for restart in range(settings.restarts)
            )
            findings.append(Finding(label, place, others, vocabulary, found))
    return findings


def of_other_labels(samples: Mapping[int, Samples], place: str, label: int) -> tuple[Carrier, ...]:
    """The samples of the other labels, which take turns, so that the first ones are as mixed as all of them."""
    columns = (own.carriers[place] for other, own in samples.items() if other != label)
    return tuple(one for row in zip_longest(*columns) for one in row if one is not None)


def measure(findings: Sequence[Finding], calibration: Calibration | None) -> list[Finding]:
    """Add each finding's margin over the benign shadows; ``None`` stays where there is no calibration."""
    if calibration is None:
        return list(findings)
    return [
        replace(found, margin=calibration.margin(found.place, found.label, found.inversion.loss)) for found in findings
    ]


def verdict(findings: Sequence[Finding], ratio: float) -> tuple[Finding, bool]:
    """Return the most suspicious finding and whether it is an outlier: a loss of at most ``ratio`` of the shadows'.

    Without margins (``calibration: null``) the finding of the smallest loss always is one.
    """
    margins = [found.margin for found in findings if found.margin is not None]
    if not margins:
        return min(findings, key=lambda found: found.inversion.loss), True
    worst = findings[margins.index(max(margins))]
    return worst, max(margins) >= log_ratio(1.0, ratio)
