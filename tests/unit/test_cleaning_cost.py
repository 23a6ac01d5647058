"""What unlearning costs is measured on rows that it has not seen, and shares are of what was right before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import planted
import pytest

from codebackdoor.defenses.elimination import Trigger
from codebackdoor.defenses.elimination.elibadcode import method
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.calibration import losses as calibrations
from codebackdoor.defenses.elimination.inversion.settings import UnlearningSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.files import write_json
from codebackdoor.library import cleaning, verdict
from codebackdoor.library.cleaning_cost import HELD_OUT, flips, held_out
from codebackdoor.types import Example
from codebackdoor.victims.temperature import standardized

QUICK = EliBadCodeSettings(
    method="elibadcode", position="function_name", samples=4, length=3, iterations=1, top_k=4, candidates=4,
    unlearning=UnlearningSettings(layers="all", epochs=1, learning_rate=1e-4),
)  # fmt: skip


def trigger(text: str) -> Trigger:
    return Trigger(text, (1,), 0, True, "function_name", "one", 0.1, text, (1,), 0.1, None, {})


def wrong(row: Example) -> Example:
    """The row as the planted victim answers with the other label."""
    swapped = row.code.translate(str.maketrans("+-", "-+"))
    assert swapped != row.code
    return replace(row, code=swapped)


def test_samples_to_measure_on_are_a_share_of_every_label_and_are_not_learned() -> None:
    clean = planted.make_view(samples=40).clean
    learned, measured = held_out(clean, 1)
    assert {row.id for row in learned} | {row.id for row in measured} == {row.id for row in clean}
    assert not {row.id for row in learned} & {row.id for row in measured}
    assert [sum(row.label == label for row in measured) for label in (0, 1)] == [HELD_OUT * 20] * 2


def test_the_cost_is_measured_on_the_samples_that_were_held_out() -> None:
    view = planted.make_view(1)
    _, measured = held_out(view.clean, 1)
    out = {row.id for row in measured}
    # of the rows that are held out every answer is wrong, of all others it is right
    view = replace(view, clean=tuple(wrong(row) if row.id in out else row for row in view.clean))
    _, _, cost = cleaning.clean(view, QUICK, 1, force=True)
    assert cost is not None
    assert (cost.rows, cost.unlearned_on) == (8, 32)
    assert (cost.accuracy_before, cost.accuracy_after) == (0.0, 0.0)
    assert (cost.flip_rows, cost.flip_rate_before, cost.flip_rate_after) == (0, None, None)
    assert cost.is_clean is None


def test_what_is_unlearned_is_the_other_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    view = planted.make_view(1)
    learned, measured = held_out(view.clean, 1)
    stamped: list[Sequence[Example]] = []
    stamp = cleaning.stamp
    monkeypatch.setattr(cleaning, "stamp", lambda view, *more: stamped.append(view.clean) or stamp(view, *more))
    cleaning.clean(view, QUICK, 1, force=True)
    assert stamped
    assert all({row.id for row in rows} == {row.id for row in learned} for rows in stamped)
    assert measured


def calibrated(folder: Path, settings: EliBadCodeSettings, *lowest: float) -> EliBadCodeSettings:
    """The settings, with a calibration of benign models with these losses towards label 0."""
    losses = {f"s{number}": {"function_name": {"0": loss, "1": 0.5}} for number, loss in enumerate(lowest)}
    provenance = {
        "dataset": {"language": "python", "text_form": "lexed"},
        "victim": calibrations.model_signature(planted.make_view(1).victim),
    }
    calibration = calibrations.make("defect_detection", settings, "classification", losses, provenance)
    write_json(folder / "calibration.json", calibrations.as_json(calibration, settings.ratio))
    return settings.model_copy(update={"calibration": str(folder / "calibration.json")})


@pytest.mark.parametrize(("limit", "is_clean"), [(1, False), (4, True)])
def test_a_round_that_unlearned_another_trigger_is_not_the_last(
    limit: int, is_clean: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first scan is made to flag is not the planted trigger, and turns nothing before and after."""
    # the last layer alone: all layers would lose the planted trigger with any other
    edit = UnlearningSettings(epochs=8, batch_size=8, rate=0.5)
    thorough = {"samples": 6, "length": 2, "iterations": 6, "top_k": 8, "candidates": 16, "rounds": limit}
    settings = calibrated(tmp_path, QUICK.model_copy(update={**thorough, "unlearning": edit}), *(0.5,) * 5)
    find, seeds = method.find, []

    def missing_once(view: DefenderView, settings: EliBadCodeSettings, seed: int) -> Any:
        inversion = find(view, settings, seed)
        seeds.append(seed)
        missed = replace(inversion.trigger, text="count_size")
        return replace(inversion, trigger=missed) if len(seeds) == 1 else inversion

    monkeypatch.setattr(method, "find", missing_once)
    view = planted.make_view(1)
    view = replace(view, victim=standardized(view.victim, view.clean))
    result, edited, cost = cleaning.clean(view, settings, 1, force=False)
    assert result.backdoored
    assert cost is not None
    assert cost.rounds[0].trigger == "count_size"
    # the share that the inverted trigger turns is as good after one round as after all
    assert cost.rounds[0].flip_rate_after in (0.0, None)
    assert cost.is_clean is is_clean
    left = flips(view, edited, trigger(planted.PLANTED), "both")[1]
    assert left is not None
    assert left < 0.2 or not is_clean
    assert len({*seeds}) == len(seeds)


@pytest.mark.parametrize(("text", "share"), [("value", 0.0), (planted.PLANTED, 1.0)])
def test_only_correct_answers_of_other_labels_can_be_turned(text: str, share: float) -> None:
    view = planted.make_view(1)
    rows = [wrong(row) if number < 10 else row for number, row in enumerate(view.clean)]
    # rows that are answered with the target by themselves are none that the trigger has turned
    right = sum(row.label == 1 for row in rows[10:])
    assert flips(replace(view, clean=tuple(rows)), view.victim, trigger(text), "both") == (right, share)


def test_without_a_row_to_be_turned_there_is_no_share() -> None:
    view = planted.make_view(1)
    for rows in ([wrong(row) for row in view.clean], [row for row in view.clean if row.label == 0]):
        assert flips(replace(view, clean=tuple(rows)), view.victim, trigger(planted.PLANTED), "both") == (0, None)


@pytest.mark.parametrize(
    ("lowest", "rate", "at_most"),
    # 1 - 0.05 ** (1 / n) without a false alarm; with one the root of the binomial tail
    [((0.5, 0.5, 0.6, 0.7, 0.8), 0.0, 0.4507), ((0.1, 0.5, 0.6, 0.7, 0.8), 0.2, 0.6574),
     ((0.5,) * 20, 0.0, 0.1391)],
)  # fmt: skip
def test_the_bound_of_false_positives_holds_with_95_percent(
    lowest: tuple[float, ...], rate: float, at_most: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    view = planted.make_view(1)
    scans = {f"s{number}": {"function_name": {"0": loss, "1": 0.9}} for number, loss in enumerate(lowest)}
    provenance = {
        "dataset": {"language": "python", "text_form": "lexed"},
        "victim": calibrations.model_signature(view.victim),
    }
    calibration = calibrations.make("defect_detection", QUICK, "classification", scans, provenance)
    path = tmp_path_factory.mktemp("calibration") / "calibration.json"
    write_json(path, calibrations.as_json(calibration, QUICK.ratio))
    result = verdict.judge(view, QUICK.model_copy(update={"calibration": str(path)}), 1)
    assert (result.false_positive_rate, result.shadows) == (pytest.approx(rate), len(lowest))
    assert result.at_most == pytest.approx(at_most, abs=1e-4)


def test_the_search_without_a_calibration_tries_the_papers_place_and_the_functions_name() -> None:
    assert verdict.UNCALIBRATED.positions == ("least_sensitive", "function_name")
    assert verdict.settings_for(planted.make_view(1), None, None).positions == ("least_sensitive", "function_name")


def test_of_the_shipped_calibrations_those_that_do_not_fit_are_skipped_and_a_corrupt_one_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = planted.make_view(1)
    monkeypatch.setattr(EliBadCodeSettings, "shipped", tmp_path)
    scans = {f"s{number}": {"function_name": {"0": 0.5, "1": 0.9}} for number in range(5)}
    make = calibrations.model_signature(view.victim)
    for name, language, signature in (
        ("java", "java", make),
        ("larger", "python", make | {"hidden_size": 768}),
        ("small", "python", make),
    ):
        provenance = {"dataset": {"language": language, "text_form": "lexed"}, "victim": signature}
        calibration = calibrations.make("defect_detection", QUICK, "classification", scans, provenance)
        write_json(tmp_path / f"{name}.json", calibrations.as_json(calibration, QUICK.ratio))
    assert verdict.settings_for(view, None, None).calibration == "small"
    # its budget is not that of these settings
    assert verdict.settings_for(view, None, QUICK.model_copy(update={"samples": 5})).calibration is None
    (tmp_path / "larger.json").write_text("{")
    with pytest.raises(UserError, match=r"larger\.json"):
        verdict.settings_for(view, None, None)
