"""Rounds: what a scan misses, the next scan of the edited victim finds."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from planted import PLANTED, make_view

from codebackdoor import files
from codebackdoor.defenses.elimination import Elimination, Inversion, SearchContext, Trigger
from codebackdoor.defenses.elimination.elibadcode import method
from codebackdoor.defenses.elimination.elibadcode.method import eliminate, scan_losses, scan_of
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion import reuse, rounds
from codebackdoor.defenses.elimination.inversion.calibration import losses as calibrations
from codebackdoor.defenses.elimination.inversion.settings import UnlearningSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.library import cleaning
from codebackdoor.library.cleaning_cost import flips
from codebackdoor.victims.inference import class_logits
from codebackdoor.victims.temperature import SPREAD, spread, standardized
from codebackdoor.victims.victim import Victim

SETTINGS = EliBadCodeSettings(
    method="elibadcode", position="function_name", samples=6, length=2, iterations=6, top_k=8, candidates=16,
    unlearning=UnlearningSettings(epochs=8, batch_size=8, rate=0.5),
)  # fmt: skip


def trigger(text: str, flagged: bool = True) -> Trigger:
    return Trigger(text, (), 0, flagged, "function_name", "one", 0.1, text, (), 0.1, 2.0, {})


class Scripted:
    """Scans that find the triggers of a list one after another; victims are the texts that they unlearned."""

    def __init__(self, *triggers: Trigger) -> None:
        self.triggers, self.seeds = list(triggers), [1]

    def run(self, limit: int, kept_text: str = "") -> rounds.Rounds:
        def scan(_: Any, seed: int, number: int) -> Inversion:
            self.seeds.append(seed)
            return Inversion(self.triggers[number - 1], {})

        def remove(victim: Any, inverted: Inversion, _: int) -> Any:
            return victim if inverted.trigger.text == kept_text else (*victim, inverted.trigger.text)

        victim: Any = ()
        return rounds.run(victim, Inversion(self.triggers[0], {}), limit, 1, scan, remove, lambda victim: victim)


def test_it_goes_on_until_a_scan_flags_nothing() -> None:
    result = Scripted(trigger("a"), trigger("b"), trigger("c", flagged=False), trigger("d")).run(9)
    texts = [trigger.text for trigger in result.triggers]
    assert (result.victim, texts, result.clean) == (("a", "b"), ["a", "b", "c"], True)


def test_no_more_than_the_limit_are_unlearned_and_the_last_is_scanned_for() -> None:
    result = Scripted(trigger("a"), trigger("b"), trigger("c")).run(2)
    texts = [trigger.text for trigger in result.triggers]
    assert (result.victim, texts, result.clean) == (("a", "b"), ["a", "b", "c"], False)


def test_a_victim_that_stays_as_it_is_is_not_scanned_again() -> None:
    result = Scripted(trigger("a", flagged=False)).run(5, kept_text="a")
    assert (result.victim, len(result.triggers), result.clean) == ((), 1, True)


def test_every_scan_has_a_seed_of_its_own() -> None:
    scripted = Scripted(*(trigger(letter) for letter in "abcd"))
    scripted.run(3)
    assert len({*scripted.seeds}) == 4


@cache
def calibration() -> dict[str, Any]:
    scans = {f"seed{seed}": scan_losses(make_view(seed, planted=False), SETTINGS, 1) for seed in range(11, 16)}
    provenance = {
        "dataset": {"language": "python", "text_form": "lexed"},
        "victim": calibrations.model_signature(make_view().victim),
    }
    return calibrations.as_json(
        calibrations.make("defect_detection", SETTINGS, "classification", scans, provenance), 0.5
    )


def eliminated(folder: Path, limit: int, first: str | None) -> Elimination:
    """EliBadCode on the planted victim; ``first`` is what a first scan is made to have found."""
    files.write_json(folder / "calibration.json", calibration())
    settings = SETTINGS.model_copy(update={"rounds": limit, "calibration": str(folder / "calibration.json")})
    history = {"search": reuse.search_of(settings, 1)}
    earlier = Inversion(trigger(first), history) if first else None
    return eliminate(make_view(), settings, 1, SearchContext(earlier=earlier))


def flip_rate(victim: Victim) -> float:
    rate = flips(make_view(), victim, trigger(PLANTED), "both")[1]
    assert rate is not None
    return rate


def test_the_backdoor_that_a_first_round_leaves_whole_is_found_by_the_second(tmp_path: Path) -> None:
    once, more = (eliminated(tmp_path, limit, first="count_size") for limit in (1, 4))
    assert flip_rate(make_view().victim) == flip_rate(once.victim) == 1.0
    assert "rounds" not in once.history
    assert flip_rate(more.victim) < 0.2
    listed: Any = more.history["rounds"]
    assert (listed[0]["trigger"], PLANTED in listed[1]["trigger"]) == ("count_size", True)
    assert [entry["flagged"] for entry in listed] == [*[True] * (len(listed) - 1), False]
    assert ["unlearning" in entry for entry in listed] == [*[True] * (len(listed) - 1), False]
    # what the folder says is inverted is what the first scan found
    assert more.trigger == trigger("count_size")


@pytest.mark.parametrize("command", ["eliminate", "clean"])
def test_an_edited_victim_is_scanned_in_the_unit_of_its_own_logits(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unlearning changes how much the logits vary: in the old unit losses do not compare with the calibration's."""
    scanned: list[Victim] = []
    find = method.find

    def recorded(view: DefenderView, *more: Any) -> Any:
        scanned.append(view.victim)
        return find(view, *more)

    monkeypatch.setattr(method, "find", recorded)
    files.write_json(tmp_path / "calibration.json", calibration())
    settings = SETTINGS.model_copy(update={"rounds": 4, "calibration": str(tmp_path / "calibration.json")})
    view = replace(make_view(), victim=standardized(make_view().victim, make_view().clean))
    if command == "eliminate":
        eliminate(view, settings, 1)
    else:
        cleaning.clean(view, settings, 1, force=False)
    assert len(scanned) > 1
    for victim in scanned:
        texts = [encoded.ids for encoded in victim.encode([example.code for example in view.clean])]
        assert spread(class_logits(victim, texts)) == pytest.approx(SPREAD, rel=1e-4)


def test_a_benign_victim_is_scanned_once_and_kept(tmp_path: Path) -> None:
    files.write_json(tmp_path / "calibration.json", calibration())
    settings = SETTINGS.model_copy(update={"rounds": 4, "calibration": str(tmp_path / "calibration.json")})
    view = make_view(1, planted=False)
    result = eliminate(view, settings, 1)
    assert result.victim is view.victim
    assert [entry["flagged"] for entry in result.history["rounds"]] == [False]  # type: ignore[attr-defined]


def test_a_killed_second_round_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    files.write_json(tmp_path / "calibration.json", calibration())
    settings = SETTINGS.model_copy(update={"rounds": 2, "calibration": str(tmp_path / "calibration.json")})
    undisturbed = eliminate(make_view(), settings, 1)
    work = tmp_path / "work"
    resumed = [eliminate(make_view(), settings, 1, SearchContext(work, "x")) for _ in range(2)]
    assert (work / "round2" / "searches.json").is_file()
    assert [result.history for result in resumed] == [undisturbed.history] * 2


def test_rounds_and_further_places_leave_the_first_search_as_it_is(tmp_path: Path) -> None:
    paper = SETTINGS.model_copy(update={"position": "scan"})
    extended = paper.model_copy(update={"position": "scan_all", "rounds": 3, "calibration": None})
    first = eliminate(make_view(), paper, 1)
    assert first.trigger is not None
    reused = reuse.finished(first.history, extended, 1)
    assert {position for position, _, _ in reused} == {"least_sensitive", "function_name"}
    findings = scan_of(make_view(), extended, 1).run()
    trajectories = {(finding.position, finding.label): finding.trajectories for finding in findings}
    assert {key: trajectories[key[:2]][key[2]] for key in reused} == reused
    assert {position for position, _ in trajectories} == {"least_sensitive", "function_name", "statement"}
    assert extended.trajectory_settings() == paper.trajectory_settings()
    assert paper.trajectory_settings() != replace_position(paper).trajectory_settings()


def replace_position(settings: EliBadCodeSettings) -> EliBadCodeSettings:
    return settings.model_copy(update={"position": "function_name"})


@pytest.mark.parametrize("limit", [1, 3])
def test_the_time_of_later_scans_is_a_phase_of_its_own(limit: int, tmp_path: Path) -> None:
    assert ("rescan" in eliminated(tmp_path, limit, first=None).seconds) == (limit > 1)
    assert replace(make_view()).clean
