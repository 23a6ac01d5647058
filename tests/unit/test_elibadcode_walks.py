"""Walks of another elimination: those that end alike are taken over, and the result is that of walking oneself."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from planted import searches, view

from codebackdoor.config.eliminations import EliBadCode, Unlearning
from codebackdoor.defenses import elimination
from codebackdoor.defenses.elimination import Elimination, Inverted
from codebackdoor.defenses.elimination.elibadcode import association, scan, walks
from codebackdoor.errors import UserError
from codebackdoor.types import DefenderView

SETTINGS = EliBadCode(
    method="elibadcode", position="scan", samples=6, length=3, iterations=12, top_k=16, candidates=16, restarts=2,
    patience=3, keep_current=False, unlearning=Unlearning(epochs=0),
)  # fmt: skip


def eliminated(seen: DefenderView, settings: EliBadCode, known: Inverted | None = None) -> Elimination:
    return elimination.load("elibadcode")(seen, settings, 1, None, None, known)


def written(found: Elimination) -> Any:
    """What a folder holds of it, as it is read back."""
    assert found.trigger is not None
    return json.loads(json.dumps({"trigger": asdict(found.trigger), "history": found.history}))


def taken(found: Elimination, seconds: float = 100.0) -> Inverted:
    assert found.trigger is not None
    return Inverted(found.trigger, written(found)["history"], {"inversion": seconds})


@pytest.fixture(params=["labels", "search"])
def seen(request: pytest.FixtureRequest) -> DefenderView:
    return view() if request.param == "labels" else searches()


@pytest.mark.parametrize(
    "other", [{"iterations": 6}, {"iterations": 40}, {"beta": 0.0}, {"ratio": 0.9}, {"unlearning": {"epochs": 1}}]
)
def test_a_search_with_the_walks_of_another_ends_as_one_that_walked(seen: DefenderView, other: dict[str, Any]) -> None:
    settings = EliBadCode.model_validate(SETTINGS.model_dump() | other)
    first = eliminated(seen, SETTINGS)
    assert written(eliminated(seen, settings, taken(first))) == written(eliminated(seen, settings))


def test_only_walks_that_came_to_the_limit_are_walked_again(
    seen: DefenderView, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked = []
    for module in (scan, association):
        real = module.search
        monkeypatch.setattr(
            module, "search", lambda *given, _real=real, **rest: (walked.append(1), _real(*given, **rest))[1]
        )
    first = eliminated(seen, SETTINGS)
    every = len(walked)
    steps = [len(walk["history"]) - 1 for one in written(first)["history"]["searches"] for walk in one["walks"]]
    assert len(steps) == every > 2
    limit = sorted(steps)[len(steps) // 2]
    assert 0 < sum(number >= limit for number in steps) < every
    for settings, left in (
        (SETTINGS.model_copy(update={"beta": 0.0}), 0),
        (SETTINGS.model_copy(update={"iterations": limit}), sum(number >= limit for number in steps)),
    ):
        walked.clear()
        found = eliminated(seen, settings, taken(first))
        assert len(walked) == left
        # seconds of the walks taken over are those of the other's search, by their share of the work
        assert found.seconds["inversion"] >= 100 * walks.share(
            written(first)["history"], walks.gone(written(first)["history"], settings, seen.victim.head)
        )


def test_walks_of_another_search_are_refused() -> None:
    found = taken(eliminated(view(), SETTINGS))
    with pytest.raises(UserError, match="differs in race, samples; name one of the same search"):
        eliminated(view(), SETTINGS.model_copy(update={"samples": 5, "race": 2}), found)
