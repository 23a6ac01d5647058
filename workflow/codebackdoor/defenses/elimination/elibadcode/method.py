"""EliBadCode: invert the trigger of a backdoored victim and make the victim unlearn it.

Sun et al., "Eliminating Backdoors in Neural Code Models for Secure Code Understanding", FSE 2025, section 4: (a)
trigger vocabulary, (b) position, (c) inversion, label scan and anchoring, (d) unlearning. What passes from (c) to (d)
is the anchored trigger's text and the position and label that the scan found.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import zip_longest

from codebackdoor.defenses.elimination import NO_CONTEXT, Elimination, Inversion, SearchContext, timed
from codebackdoor.defenses.elimination.elibadcode.history import history, trigger_of
from codebackdoor.defenses.elimination.elibadcode.retrieval_scan import RetrievalScan
from codebackdoor.defenses.elimination.elibadcode.scan import LabelScan, Scan, losses_of, measure, verdict
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion import reuse, rounds
from codebackdoor.defenses.elimination.inversion.calibration import losses
from codebackdoor.defenses.elimination.inversion.calibration.losses import Losses
from codebackdoor.defenses.elimination.inversion.unlearning import unlearn
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.seeding import numpy_generator
from codebackdoor.victims.temperature import standardized
from codebackdoor.victims.victim import Victim


def eliminate(
    view: DefenderView, settings: EliBadCodeSettings, seed: int, context: SearchContext = NO_CONTEXT
) -> Elimination:
    """Scan the victim; return an edited copy of it if a label is flagged, else the victim itself.

    Raises UserError for a victim that generates, for a retrieval victim if the unlearning needs labels, for clean
    samples without labels, and for a calibration that does not fit the scan.
    """
    if HEADS[view.victim.head].generates:
        raise UserError("EliBadCode inverts triggers of victims that judge code; this one generates text")
    if view.victim.head not in settings.works_on():
        raise UserError(
            "EliBadCode: unlearning by `classes: victim` or `labels: ascent` needs labels, and a code-search victim "
            "has none; write `classes: all` and `labels: correct`"
        )
    seconds: dict[str, float] = {}
    inversion = context.earlier
    if inversion is None or not reuse.same_search(inversion.history, settings, seed):
        inversion = _invert(view, settings, seed, context, seconds)
    if settings.rounds > 1:
        return _in_rounds(view, settings, inversion, seed, context, seconds)
    return unlearn(view, settings, inversion, numpy_generator(seed, "elibadcode", "unlearning"), seconds)


def _in_rounds(
    view: DefenderView,
    settings: EliBadCodeSettings,
    first: Inversion,
    seed: int,
    context: SearchContext,
    seconds: dict[str, float],
) -> Elimination:
    """``unlearn`` and scan until a scan flags nothing; the trigger is that of the first scan."""
    unlearned: list[object] = []

    def scan(victim: Victim, round_seed: int, number: int) -> Inversion:
        with timed(seconds, "rescan"):
            return find(replace(view, victim=victim), settings, round_seed, context.of_round(number))

    def remove(victim: Victim, inversion: Inversion, number: int) -> Victim:
        generator = numpy_generator(rounds.seed_of(seed, number), "elibadcode", "unlearning")
        edited = unlearn(replace(view, victim=victim), settings, inversion, generator, seconds)
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


def _invert(
    view: DefenderView,
    settings: EliBadCodeSettings,
    seed: int,
    context: SearchContext,
    seconds: dict[str, float],
) -> Inversion:
    """Search, reusing trajectories of an earlier search; ``seconds`` includes their time, if it is known."""
    earlier = context.earlier
    earlier_trajectories = reuse.NO_TRAJECTORIES if earlier is None else reuse.finished(earlier.history, settings, seed)
    with timed(seconds, "inversion"):
        inversion = find(view, settings, seed, context, earlier_trajectories)
    if earlier is not None and "inversion" in earlier.seconds:
        seconds["inversion"] += reuse.share(earlier.history, earlier_trajectories) * earlier.seconds["inversion"]
    elif earlier_trajectories:
        del seconds["inversion"]
    return inversion


def find(
    view: DefenderView,
    settings: EliBadCodeSettings,
    seed: int,
    context: SearchContext = NO_CONTEXT,
    earlier_trajectories: reuse.Trajectories = reuse.NO_TRAJECTORIES,
) -> Inversion:
    """Return the most suspicious trigger, anchored, and how the search for it went: phases (a) to (c)."""
    calibration = None if settings.calibration is None else losses.load(view, settings)
    scan = scan_of(view, settings, seed)
    findings = measure(scan.run(context, earlier_trajectories), calibration)
    worst, flagged = verdict(findings, settings.ratio)
    anchored = scan.anchor(worst)
    return Inversion(trigger_of(scan, worst, flagged, anchored, findings), history(scan, anchored, findings))


def scan_losses(
    view: DefenderView, settings: EliBadCodeSettings, seed: int, context: SearchContext = NO_CONTEXT
) -> Losses:
    """The lowest loss of the search at each position for each label, without a verdict; used for calibration."""
    return losses_of(scan_of(view, settings, seed).run(context))


def scan_of(view: DefenderView, settings: EliBadCodeSettings, seed: int) -> Scan:
    """The scan that fits the victim's head."""
    kind: type[RetrievalScan | LabelScan] = RetrievalScan if HEADS[view.victim.head].ranks else LabelScan
    return kind.draw(view, settings, seed)
