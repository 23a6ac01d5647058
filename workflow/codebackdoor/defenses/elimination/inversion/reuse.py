"""Reuse search trajectories of an earlier elimination with the same search settings.

Where a search starts, and each of its steps, depends on the victim, the seed and the settings of the search. The limit
on the number of steps matters only to a search that reached it. The results are judged by the current settings, which
may have another calibration or beta.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from codebackdoor.defenses.elimination.inversion.search import Trajectory
from codebackdoor.defenses.elimination.inversion.settings import GreedySearchSettings, InversionSettings
from codebackdoor.errors import UserError

#: Finished trajectories by position, label and number of the start.
Trajectories = Mapping[tuple[str, int, int], Trajectory]
NO_TRAJECTORIES: Trajectories = {}


def search_of(settings: InversionSettings, seed: int) -> dict[str, Any]:
    """What the trigger depends on besides victim and samples, as ``elimination.json`` holds it."""
    return {**settings.trigger_settings(), "seed": seed}


def same_search(history: Mapping[str, Any], settings: InversionSettings, seed: int) -> bool:
    """Whether the elimination that wrote ``elimination.json`` inverted the trigger that these settings would invert."""
    return bool(history.get("search") == search_of(settings, seed))


def check_same_search(history: Mapping[str, Any], settings: InversionSettings, seed: int) -> None:
    """Raise UserError unless these settings would invert the trigger of the elimination that wrote the history."""
    _refuse(_differences(history, settings, seed))


def _differences(history: Mapping[str, Any], settings: InversionSettings, seed: int) -> list[str]:
    """The settings in which an earlier search differs; UserError where another method or version wrote the history."""
    search, earlier = search_of(settings, seed), history.get("search")
    if not isinstance(earlier, Mapping):
        raise UserError(
            "the elimination whose search is to be reused is not a trigger search, or is of another version; run it "
            "again, or name another"
        )
    if earlier.get("method") != search["method"]:
        raise UserError(
            f"the elimination whose search is to be reused is by {earlier.get('method')}, not {search['method']}; name "
            "one of the same method"
        )
    return sorted(name for name in {**search, **earlier} if search.get(name) != earlier.get(name))


def _refuse(differences: Collection[str]) -> None:
    if differences:
        raise UserError(
            f"the elimination whose search is to be reused differs in {', '.join(sorted(differences))}; name one of "
            "the same search"
        )


def finished(history: Mapping[str, Any], settings: GreedySearchSettings, seed: int) -> Trajectories:
    """The trajectories in an ``elimination.json`` that would end at the same candidate with these settings.

    UserError where the two searches differ in what a step depends on, or another method or version wrote the file.
    """
    differ, earlier = _differences(history, settings, seed), history["search"]
    may_differ = {"iterations", *settings.fields_read("judged")}
    if {settings.position, earlier.get("position")} <= {"scan", "scan_all"}:
        may_differ.add("position")
    # all of them are named, since the remedy is a search without any
    _refuse(differ if {*differ} - may_differ else ())
    steps = min(settings.iterations, earlier["iterations"])
    trajectories: dict[tuple[str, int, int], Trajectory] = {}
    for entry in history["searches"]:
        for start, content in enumerate(entry["walks"]):
            trajectory = Trajectory.from_json(content)
            # with fewer steps than either limit, it ended by itself
            if "iterations" not in differ or len(trajectory.history) - 1 < steps:
                trajectories[entry["place"], entry["label"], start] = trajectory
    return trajectories


def share(history: Mapping[str, Any], trajectories: Trajectories) -> float:
    """The share of the earlier elimination's work, in scored candidates, that went into these trajectories."""
    scored = sum(content["scored"] for entry in history["searches"] for content in entry["walks"])
    return sum(trajectory.scored for trajectory in trajectories.values()) / scored if scored else 0.0
