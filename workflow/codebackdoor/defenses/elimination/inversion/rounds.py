"""Scan, unlearn, and scan again, until a scan says "clean": what one round misses, the next one may find.

A scan may flag the right label with a trigger that is not the attacker's, and unlearning it leaves the backdoor intact.
A second scan of the edited victim, with fresh seeds, shows whether it did. The paper has one round and no second scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codebackdoor.defenses.elimination import Inversion, Trigger
from codebackdoor.seeding import derive
from codebackdoor.victims.victim import Victim

#: Scans a victim with a seed; the number says which round it is, from 1.
Scan = Callable[[Victim, int, int], Inversion]
#: Returns the victim without the trigger of a scan, in the round of this number.
Remove = Callable[[Victim, Inversion, int], Victim]
#: Returns the victim with its logits in the unit of a defender's view (``victims.temperature``).
Standardize = Callable[[Victim], Victim]


@dataclass(frozen=True, slots=True)
class Rounds:
    """The edited victim and the trigger of each scan, beginning with the scan of the original victim.

    ``clean`` says whether the last scan flags nothing.
    """

    victim: Victim
    triggers: tuple[Trigger, ...]

    @property
    def clean(self) -> bool:
        return not self.triggers[-1].flagged


def seed_of(seed: int, number: int) -> int:
    """The seed of a round's samples and searches; the first has the elimination's own."""
    return seed if number == 1 else derive(seed, "elibadcode", "round", str(number))


def run(
    victim: Victim, first: Inversion, limit: int, seed: int, scan: Scan, remove: Remove, standardize: Standardize
) -> Rounds:
    """Unlearn at most ``limit`` triggers, beginning with that of ``first``, and scan after each.

    Unlearning changes how much the logits vary, so each edited victim is standardized before it is scanned. Ends with
    the first scan that flags nothing. ``remove`` decides whether a trigger that is not flagged is removed as well.
    """
    triggers = [first.trigger]
    inversion = first
    for number in range(1, limit + 1):
        edited = remove(victim, inversion, number)
        if edited is victim:
            break
        victim = standardize(edited)
        inversion = scan(victim, seed_of(seed, number + 1), number + 1)
        triggers.append(inversion.trigger)
        if not inversion.trigger.flagged:
            break
    return Rounds(victim, tuple(triggers))


def as_json(triggers: Sequence[Trigger]) -> list[dict[str, object]]:
    """The scans in their order, as ``elimination.json`` lists them."""
    return [
        {
            "trigger": trigger.text,
            "label": trigger.target_label,
            "position": trigger.position,
            "loss": trigger.loss,
            "margin": trigger.margin,
            "flagged": trigger.flagged,
        }
        for trigger in triggers
    ]
