"""EliBadCode: invert the trigger of a backdoored classifier and make the classifier unlearn it.

Sun et al., "Eliminating Backdoors in Neural Code Models for Secure Code Understanding", FSE 2025, section 4: (a)
trigger vocabulary, (b) position, (c) inversion, label scan and anchoring, (d) unlearning. What passes from (c) to (d)
is the anchored trigger's text and the place and label that the scan found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

from codebackdoor.config.eliminations import EliBadCode
from codebackdoor.defenses.elimination import Elimination, Inverted, Trigger, timed
from codebackdoor.defenses.elimination.elibadcode import outcome, rounds, searching, shadows, walks
from codebackdoor.defenses.elimination.elibadcode.anchoring import anchor
from codebackdoor.defenses.elimination.elibadcode.scan import Finding, draw, measure, scan_labels, verdict
from codebackdoor.defenses.elimination.elibadcode.unlearning import unlearn
from codebackdoor.defenses.elimination.elibadcode.walks import Walks
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.seeding import numpy_generator
from codebackdoor.victims.temperature import standardized
from codebackdoor.victims.victim import Victim


def eliminate(
    view: DefenderView,
    settings: EliBadCode,
    seed: int,
    work: Path | None = None,
    code: str | None = None,
    inverted: Inverted | None = None,
) -> Elimination:
    """Scan the victim; where a label is flagged, return an edited copy of it, else the victim itself.

    Raises UserError for a victim that generates, for one that searches where the unlearning goes by labels, for clean
    samples without labels, and for a calibration that does not fit the scan.
    """
    if view.victim.head == "generation":
        raise UserError("EliBadCode inverts triggers of victims that judge code; this one generates text")
    if view.victim.head not in settings.works_on():
        raise UserError(
            "EliBadCode: unlearning by `classes: victim` or `labels: ascent` needs labels, and a victim that searches "
            "has none; write `classes: all` and `labels: correct`"
        )
    seconds: dict[str, float] = {}
    if inverted is None or not walks.same_search(inverted.history, settings, seed):
        inverted = _searched(view, settings, seed, work, code, inverted, seconds)
    if settings.rounds > 1:
        return _in_rounds(view, settings, inverted, seed, work, code, seconds)
    return unlearn(view, settings, inverted, numpy_generator(seed, "elibadcode", "unlearning"), seconds)


def _in_rounds(
    view: DefenderView,
    settings: EliBadCode,
    first: Inverted,
    seed: int,
    work: Path | None,
    code: str | None,
    seconds: dict[str, float],
) -> Elimination:
    """``unlearn`` and scan until a scan flags nothing; the trigger is that of the first scan."""
    unlearned: list[object] = []

    def scan(victim: Victim, round_seed: int, number: int) -> Inverted:
        folder = work / f"round{number}" if work else None
        with timed(seconds, "rescan"):
            return Inverted(*find(replace(view, victim=victim), settings, round_seed, folder, code))

    def remove(victim: Victim, inverted: Inverted, number: int) -> Victim:
        generator = numpy_generator(rounds.seed_of(seed, number), "elibadcode", "unlearning")
        edited = unlearn(replace(view, victim=victim), settings, inverted, generator, seconds)
        unlearned.append(edited.history.get("unlearning"))
        return edited.victim

    result = rounds.run(
        view.victim, first, settings.rounds, seed, scan, remove, partial(standardized, samples=view.clean)
    )
    listed = [
        entry | ({"unlearning": steps} if steps else {})
        for entry, steps in zip_longest(rounds.as_json(result.triggers), unlearned)
    ]
    return Elimination(result.victim, first.trigger, {**first.history, "rounds": listed}, seconds)


def _searched(
    view: DefenderView,
    settings: EliBadCode,
    seed: int,
    work: Path | None,
    code: str | None,
    other: Inverted | None,
    seconds: dict[str, float],
) -> Inverted:
    """The search, without the walks that an ``other`` went; ``seconds`` get the time of all of them, where known."""
    known = walks.NONE if other is None else walks.finished_walks(other.history, settings, seed)
    with timed(seconds, "inversion"):
        found = Inverted(*find(view, settings, seed, work, code, known))
    if other is not None and "inversion" in other.seconds:
        seconds["inversion"] += walks.share(other.history, known) * other.seconds["inversion"]
    elif known:
        del seconds["inversion"]
    return found


def find(
    view: DefenderView,
    settings: EliBadCode,
    seed: int,
    work: Path | None = None,
    code: str | None = None,
    known: Walks = walks.NONE,
) -> tuple[Trigger, dict[str, object]]:
    """Return the most suspicious trigger, anchored, and how the search for it went: phases (a) to (c)."""
    labels = labels_of(view.victim)
    calibration = None
    if settings.calibration is not None:
        calibration = shadows.load(settings.calibration, view, settings, labels)
    if view.victim.head == "retrieval":
        return searching.find(view, settings, calibration, seed, work, code, known)
    samples = draw(view, settings, labels, seed)
    findings = measure(scan_labels(view, settings, samples, seed, work, code, known), calibration)
    worst, flagged = verdict(findings, settings.ratio)
    inverted = worst.inversion.trigger
    anchored = anchor(view.victim, worst.carriers, worst.vocabulary, inverted, worst.label, settings.beta)
    counts = {label: len(own.examples) for label, own in samples.items()}
    searches = [outcome.searched(found) for found in findings]
    trigger = outcome.trigger_of(worst, flagged, anchored, findings, settings, seed)
    return trigger, outcome.history(view, settings, seed, counts, searches, anchored)


def findings_of(
    view: DefenderView, settings: EliBadCode, seed: int, work: Path | None = None, code: str | None = None
) -> list[Finding]:
    """What the search reaches for each label at each place, without a verdict: a benign victim's calibrate it."""
    if view.victim.head == "retrieval":
        return searching.scan(view, settings, seed, work, code)[0]
    return scan_labels(view, settings, draw(view, settings, labels_of(view.victim), seed), seed, work, code)


def labels_of(victim: Victim) -> Sequence[int]:
    """The labels to be scanned; a dual encoder has one association to be found."""
    return [searching.LABEL] if victim.head == "retrieval" else range(victim.model.config.num_labels)
