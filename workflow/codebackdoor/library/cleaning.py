"""Make a checkpoint unlearn what a scan flags, round by round, and report the cost and whether anything is left.

Unlearning the scan's trigger may leave the attacker's intact if the two differ. So the edited model is scanned again,
with fresh seeds, until a scan flags nothing (``inversion.rounds``).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from codebackdoor.defenses.elimination import Inversion, SearchContext, Trigger, load_scanner
from codebackdoor.defenses.elimination.inversion import rounds
from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings
from codebackdoor.defenses.elimination.inversion.unlearning import stamp
from codebackdoor.defenses.elimination.tuning import fine_tune
from codebackdoor.defenses.views import DefenderView
from codebackdoor.library.cleaning_cost import Cost, Round, accuracy, flips, held_out
from codebackdoor.library.verdict import Verdict, judge, verdict_of
from codebackdoor.seeding import numpy_generator
from codebackdoor.victims.precision import rounded
from codebackdoor.victims.temperature import standardized
from codebackdoor.victims.victim import Victim

#: A round repeats unlearning, up to ``PASSES`` passes in all, until the trigger turns at most the share ``TURNED`` of
#: the samples it is unlearned on: how many steps a model needs depends on its architecture.
PASSES, TURNED = 6, 0.05


def clean(
    view: DefenderView, settings: CalibratedSettings, seed: int, force: bool, dtype: torch.dtype = torch.float32
) -> tuple[Verdict, Victim, Cost | None]:
    """Scan the model, unlearn what the scans flag, and measure on held-out samples what that costs.

    Without ``force``, a model that the scan does not call "backdoored" is returned as it is, without a cost. Weights
    are rounded to ``dtype``, in which they will be written, before anything is measured. Every scan sees all samples.
    Without a calibration there is no scan after unlearning, since it could not say "clean".
    """
    learned, held_rows = held_out(view.clean, seed)
    if settings.calibration is None and not force:
        return judge(view, settings, seed), view.victim, None
    find = load_scanner(settings).find
    first = find(view, settings, seed)
    verdict = verdict_of(view, settings, first, seed)
    if not verdict.backdoored and not force:
        return verdict, view.victim, None
    once = settings.model_copy(update={"unlearn_when_clean": force, "rounds": 1})
    learning, measured = replace(view, clean=learned), replace(view, clean=held_rows)
    passes: list[int] = []

    def scan(victim: Victim, round_seed: int, _number: int) -> Inversion:
        return find(replace(view, victim=victim), settings, round_seed)

    def remove(victim: Victim, inversion: Inversion, number: int) -> Victim:
        learning_view = replace(learning, victim=victim)
        edited, count = _unlearned(learning_view, once, inversion, rounds.seed_of(seed, number), dtype)
        passes.append(count)
        return edited

    if verdict.backdoored is None:
        result = rounds.Rounds(remove(view.victim, first, 1), (first.trigger,))
    else:
        standardize = partial(standardized, samples=view.clean)
        result = rounds.run(view.victim, first, settings.rounds, seed, scan, remove, standardize)
    is_clean = None if verdict.backdoored is None else result.clean

    def turned(trigger: Trigger) -> tuple[int, float | None, float | None]:
        before, after = (flips(measured, victim, trigger, settings.pair) for victim in (view.victim, result.victim))
        return before[0], before[1], after[1]

    steps = tuple(
        Round(trigger.text, trigger.target_label, trigger.position, trigger.margin, count, *turned(trigger))
        for trigger, count in zip(result.triggers, passes, strict=False)
    )
    last = result.triggers[-1]
    before, after = (accuracy(victim, held_rows) for victim in (view.victim, result.victim))
    margin = last.margin if is_clean is not None else None
    cost = Cost(
        len(held_rows),
        before,
        after,
        *(steps[0].flip_rows, steps[0].flip_rate_before, steps[0].flip_rate_after),
        len(learned),
        rounds=steps,
        is_clean=is_clean,
        margin=margin,
    )
    return verdict, result.victim, cost


def _unlearned(
    view: DefenderView, settings: CalibratedSettings, inversion: Inversion, seed: int, dtype: torch.dtype
) -> tuple[Victim, int]:
    """The view's victim without the round's trigger, and the number of unlearning passes."""
    trigger = inversion.trigger
    result = load_scanner(settings).eliminate(view, settings, seed, SearchContext(earlier=inversion))
    edited, passes = rounded(result.victim, dtype), 1
    while passes < PASSES:
        turned = flips(view, edited, trigger, settings.pair)[1]
        # None: the model predicts no sample correctly any more, so none can turn; that does not end the round
        if turned is not None and turned <= TURNED:
            break
        passes += 1
        generator = numpy_generator(seed, "elibadcode", "unlearning", str(passes))
        rows = stamp(view, trigger, settings.pair, settings.unlearning, generator)
        edited, _ = fine_tune(edited, rows, settings.unlearning, settings.unlearning.labels == "ascent", generator)
        edited = rounded(edited, dtype)
    return edited, passes
