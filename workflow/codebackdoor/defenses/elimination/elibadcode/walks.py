"""Walks of another elimination that went the way of this one's: taken over, so that no way is gone twice.

Where a walk starts, and each of its steps, depends on victim, seed and the settings of the search; how many steps it
may have matters only to a walk that came so far. What the search ended with is judged anew: another calibration,
another beta.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codebackdoor.config.eliminations import EliBadCode
from codebackdoor.defenses.elimination.elibadcode.inversion import Inversion
from codebackdoor.errors import UserError

#: Finished walks by place, label and number of the start.
Walks = Mapping[tuple[str, int, int], Inversion]
NONE: Walks = {}

#: In which settings two searches may differ whose walks go the same way.
FREE = frozenset({*EliBadCode.JUDGED, "iterations"})


def search_of(settings: EliBadCode, seed: int) -> dict[str, Any]:
    """What the trigger depends on beside victim and samples, as ``elimination.json`` holds it."""
    return {**settings.search(), "seed": seed}


def same_search(history: Mapping[str, Any], settings: EliBadCode, seed: int) -> bool:
    """Whether the elimination of an ``elimination.json`` has inverted what these settings would."""
    return bool(history.get("search") == search_of(settings, seed))


def finished_walks(history: Mapping[str, Any], settings: EliBadCode, seed: int) -> Walks:
    """The walks in an ``elimination.json`` that these settings would end at the same place.

    UserError where the two searches differ in more than ``FREE``, or another method or version wrote the file.
    """
    own, other = search_of(settings, seed), history.get("search")
    if other is None:
        raise UserError(
            "the elimination whose search is to be taken over is none of EliBadCode's, or of another version; run it "
            "again, or name another"
        )
    differ = sorted(name for name in own if own[name] != other.get(name))
    both_scan = {own["position"], other.get("position")} <= {"scan", "scan_all"}
    if {*differ} - FREE - ({"position"} if both_scan else set()):
        raise UserError(
            f"the elimination whose search is to be taken over differs in {', '.join(differ)}; name one of the same "
            "search"
        )
    steps = min(settings.iterations, other["iterations"])
    found: dict[tuple[str, int, int], Inversion] = {}
    for one in history["searches"]:
        for start, walk in enumerate(one["walks"]):
            inversion = Inversion.from_json(walk)
            # with fewer steps than either may have, it has ended by itself
            if "iterations" not in differ or len(inversion.history) - 1 < steps:
                found[one["place"], one["label"], start] = inversion
    return found


def share(history: Mapping[str, Any], walks: Walks) -> float:
    """Share of that elimination's work which these walks were, by the candidates that were scored."""
    scored = sum(walk["scored"] for one in history["searches"] for walk in one["walks"])
    return sum(one.scored for one in walks.values()) / scored if scored else 0.0
