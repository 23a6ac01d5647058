"""Trajectories of an earlier elimination: those that would end the same are reused, and the result stays the same."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from planted import make_view, searches

from codebackdoor import files
from codebackdoor.defenses import elimination
from codebackdoor.defenses.elimination import Elimination, Inversion, SearchContext
from codebackdoor.defenses.elimination.elibadcode import scan
from codebackdoor.defenses.elimination.elibadcode.method import scan_losses
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.calibration import losses as calibrations
from codebackdoor.defenses.elimination.inversion.settings import UnlearningSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError

SETTINGS = EliBadCodeSettings(
    method="elibadcode", position="scan", samples=6, length=3, iterations=12, top_k=16, candidates=16, restarts=2,
    patience=3, keep_current=False, unlearning=UnlearningSettings(epochs=0),
)  # fmt: skip


def eliminated(view: DefenderView, settings: EliBadCodeSettings, earlier: Inversion | None = None) -> Elimination:
    return elimination.load("elibadcode")(view, settings, 1, SearchContext(earlier=earlier))


def written(result: Elimination) -> Any:
    """What a folder holds of it, as it is read back."""
    assert result.trigger is not None
    return json.loads(json.dumps({"trigger": asdict(result.trigger), "history": result.history}))


def inversion_of(result: Elimination, seconds: float = 100.0) -> Inversion:
    assert result.trigger is not None
    return Inversion(result.trigger, written(result)["history"], {"inversion": seconds})


@pytest.fixture(params=["labels", "search"])
def view(request: pytest.FixtureRequest) -> DefenderView:
    return make_view() if request.param == "labels" else searches()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"iterations": 6}),
        ({}, {"iterations": 40}),
        # most walks of the first are cut
        ({"iterations": 5}, {"iterations": 12}),
        ({"iterations": 3, "patience": None}, {"iterations": 3, "patience": None, "beta": 0.0}),
        ({}, {"beta": 0.0}),
        ({}, {"unlearning": {"epochs": 1}}),
    ],
)
def test_a_search_with_the_walks_of_another_ends_as_one_that_walked(
    view: DefenderView, first: dict[str, Any], second: dict[str, Any]
) -> None:
    earlier_settings, settings = (
        EliBadCodeSettings.model_validate(SETTINGS.model_dump() | change) for change in (first, second)
    )
    assert written(eliminated(view, settings, inversion_of(eliminated(view, earlier_settings)))) == written(
        eliminated(view, settings)
    )


def test_walks_are_judged_by_the_settings_that_take_them_over(tmp_path: Path) -> None:
    view = make_view()
    settings = SETTINGS.model_copy(update={"position": "function_name"})
    free = eliminated(view, settings)
    lost = scan_losses(view, settings, 1)
    made_of = {
        "dataset": {"language": view.language, "text_form": view.text_form},
        "victim": calibrations.model_signature(view.victim),
    }
    shadows = dict.fromkeys("abcde", lost)
    calibration = calibrations.make("defect_detection", settings, "classification", shadows, made_of)
    files.write_json(tmp_path / "calibration.json", calibrations.as_json(calibration, 0.5))
    calibrated = settings.model_copy(update={"calibration": str(tmp_path / "calibration.json")})
    judged = eliminated(view, calibrated, inversion_of(free))
    assert free.trigger is not None
    assert judged.trigger is not None
    # a victim is not worse than itself
    assert (free.trigger.flagged, free.trigger.margin) == (True, None)
    assert (judged.trigger.flagged, judged.trigger.margin) == (False, 0.0)
    assert written(judged) == written(eliminated(view, calibrated))


def test_only_walks_that_came_to_the_limit_are_walked_again(
    view: DefenderView, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked = []
    search = scan.search
    monkeypatch.setattr(scan, "search", lambda *args, **kwargs: (walked.append(1), search(*args, **kwargs))[1])
    first = eliminated(view, SETTINGS)
    walks = [walk for entry in written(first)["history"]["searches"] for walk in entry["walks"]]
    steps = [len(walk["history"]) - 1 for walk in walks]
    assert len(walks) == len(walked) > 2
    limit = sorted(steps)[len(steps) // 2]
    ended = [walk["scored"] for walk, number in zip(walks, steps, strict=True) if number < limit]
    assert 0 < len(ended) < len(walks)
    for settings, left, part in (
        (SETTINGS.model_copy(update={"beta": 0.0}), 0, 1.0),
        (
            SETTINGS.model_copy(update={"iterations": limit}),
            len(walks) - len(ended),
            sum(ended) / sum(walk["scored"] for walk in walks),
        ),
    ):
        walked.clear()
        result = eliminated(view, settings, inversion_of(first, 1000.0))
        assert len(walked) == left
        # seconds of the walks taken over are those of the other's search, by their share of the work
        assert 1000 * part <= result.seconds["inversion"] < 1000 * part + 50
        assert result.trigger is not None
    unknown = Inversion(inversion_of(first).trigger, inversion_of(first).history, {})
    assert "inversion" not in eliminated(view, SETTINGS.model_copy(update={"beta": 0.0}), unknown).seconds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 5, "race": 2}, "differs in race, samples; name one of the same search"),
        ({"position": "function_name"}, "differs in position; name one of the same search"),
    ],
)
def test_walks_of_another_search_are_refused(changes: dict[str, Any], message: str) -> None:
    earlier = inversion_of(eliminated(make_view(), SETTINGS))
    with pytest.raises(UserError, match=message):
        eliminated(make_view(), SETTINGS.model_copy(update=changes), earlier)
    with pytest.raises(UserError, match="differs in seed"):
        elimination.load("elibadcode")(make_view(), SETTINGS, 2, SearchContext(earlier=earlier))
    old = {name: value for name, value in earlier.history.items() if name != "search"}
    with pytest.raises(UserError, match="of another version; run it again"):
        eliminated(make_view(), SETTINGS, Inversion(earlier.trigger, old))
