"""Walks of another elimination that went the way of this one's: taken over, so that no way is gone twice.

Where a walk starts, and each of its steps, depends on victim, seed and the settings of the search; how many steps it
may have matters only to a walk that came so far. What the search ended with is judged anew: another calibration,
another beta.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codebackdoor.config.base import Head
from codebackdoor.config.eliminations import EliBadCode
from codebackdoor.defenses.elimination.elibadcode.inversion import Inversion
from codebackdoor.defenses.elimination.elibadcode.shadows import budget
from codebackdoor.errors import UserError

#: Finished walks by place, label and number of the start.
Walks = Mapping[tuple[str, int, int], Inversion]
NONE: Walks = {}


def judged(settings: EliBadCode) -> dict[str, object]:
    """What is asked of the walks' ends."""
    return {name: getattr(settings, name) for name in ("beta", "calibration", "ratio")}


def alike(history: Mapping[str, Any], settings: EliBadCode, head: Head) -> bool:
    """Whether an elimination, by its ``elimination.json``, has inverted what these settings would."""
    return bool(history.get("judged") == judged(settings) and history.get("budget") == budget(settings, head))


def gone(history: Mapping[str, Any], settings: EliBadCode, head: Head) -> Walks:
    """The walks in an ``elimination.json`` that these settings would end at the same place.

    UserError where the two searches differ in more than the number of steps.
    """
    own, other = budget(settings, head), history.get("budget", {})
    differ = sorted(name for name in own if own[name] != other.get(name))
    if {*differ} - {"iterations"}:
        raise UserError(
            f"the elimination whose search is to be taken over differs in {', '.join(differ)}; name one of the same "
            "search"
        )
    steps = min(settings.iterations, other["iterations"])
    found: dict[tuple[str, int, int], Inversion] = {}
    for search in history["searches"]:
        for start, walk in enumerate(search["walks"]):
            inversion = Inversion.from_json(walk)
            # with fewer steps than either may have, it has ended by itself
            if not differ or len(inversion.history) - 1 < steps:
                found[search["place"], search["label"], start] = inversion
    return found


def share(history: Mapping[str, Any], walks: Walks) -> float:
    """Share of that elimination's work which these walks were, by the candidates that were scored."""
    scored = sum(walk["scored"] for search in history["searches"] for walk in search["walks"])
    return sum(one.scored for one in walks.values()) / scored if scored else 0.0
