"""Clean fine-tuning: the same clean samples, layers and budget as EliBadCode's unlearning, without a trigger.

The control of EliBadCode's Tables 2 and 3 (section 5.3.1).
"""

from __future__ import annotations

from codebackdoor.defenses.elimination import NO_CONTEXT, Elimination, SearchContext, timed
from codebackdoor.defenses.elimination.fine_tuning.settings import FineTuningSettings
from codebackdoor.defenses.elimination.tuning import clean_rows, fine_tune
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.seeding import numpy_generator


def eliminate(
    view: DefenderView, settings: FineTuningSettings, seed: int, _context: SearchContext = NO_CONTEXT
) -> Elimination:
    """Return a fine-tuned copy of the victim, or the victim itself under a budget of zero."""
    if HEADS[view.victim.head].generates:
        raise UserError("clean fine-tuning is the control of EliBadCode's unlearning; this victim generates text")
    generator = numpy_generator(seed, "fine_tuning")
    seconds: dict[str, float] = {}
    with timed(seconds, "unlearning"):
        victim, history = fine_tune(view.victim, clean_rows(view), settings, ascent=False, generator=generator)
    return Elimination(victim, None, {"fine_tuning": history}, seconds)
