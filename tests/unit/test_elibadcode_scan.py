"""The label scan: samples, verdict against benign shadows, and the calibration's own checks."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from planted import make_view
from transformers import AutoConfig

from codebackdoor.config.loading import load
from codebackdoor.defenses.elimination.elibadcode.scan import Finding, LabelScan, measure, verdict
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.calibration import losses as calibrations
from codebackdoor.defenses.elimination.inversion.samples import draw
from codebackdoor.defenses.elimination.inversion.settings import SCANNED_ALL
from codebackdoor.errors import UserError
from codebackdoor.files import write_json
from codebackdoor.types import Example

SETTINGS = EliBadCodeSettings(
    method="elibadcode", position="scan", samples=6, length=3, iterations=4, top_k=16, candidates=16, restarts=2
)
TASK = "defect_detection"
ROOT = Path(__file__).parents[2]


#: What a calibration must say of the data set and the victims that it was made on.
PROVENANCE = {
    "dataset": {"language": "python", "text_form": "lexed"},
    "victim": calibrations.model_signature(make_view().victim),
}


@cache
def findings(seed: int, planted: bool) -> tuple[Finding, ...]:
    view = make_view(seed, planted)
    return tuple(LabelScan.draw(view, SETTINGS, 1).run())


def table(all_findings: tuple[Finding, ...]) -> dict[str, dict[str, float]]:
    losses: dict[str, dict[str, float]] = {}
    for finding in all_findings:
        losses.setdefault(finding.position, {})[str(finding.label)] = finding.best.loss
    return losses


@cache
def calibration() -> calibrations.Calibration:
    scans = {f"shadow{seed}": table(findings(seed, False)) for seed in range(11, 16)}
    return calibrations.make(TASK, SETTINGS, "classification", scans, PROVENANCE)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_backdoored_victim_is_flagged_with_the_planted_label(seed: int) -> None:
    worst, flagged = verdict(measure(findings(seed, True), calibration()), ratio=0.5)
    assert (worst.label, flagged) == (0, True)
    assert worst.margin is not None
    assert worst.margin > -math.log(0.5)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_benign_victim_is_clean(seed: int) -> None:
    worst, flagged = verdict(measure(findings(seed, False), calibration()), ratio=0.5)
    assert not flagged
    measured = measure(findings(seed, False), calibration())
    assert worst.margin == max(finding.margin for finding in measured if finding.margin)


def test_without_a_calibration_the_smallest_loss_is_always_flagged() -> None:
    measured = measure(findings(1, False), None)
    worst, flagged = verdict(measured, ratio=0.5)
    assert flagged
    assert worst.best.loss == min(finding.best.loss for finding in measured)


def test_the_verdict_turns_where_the_loss_is_the_ratio_of_the_lowest_shadow() -> None:
    (finding, *_) = findings(1, True)
    lowest = min(calibration().losses[finding.position]["0"])
    for loss, expected in ((lowest * 0.49, True), (lowest * 0.51, False)):
        moved = replace(finding, trajectories=(replace(finding.best, loss=loss),))
        assert verdict(measure([moved], calibration()), ratio=0.5)[1] is expected


def test_more_restarts_are_never_worse_and_every_label_and_place_is_scanned() -> None:
    once = SETTINGS.model_copy(update={"restarts": 1})
    view = make_view(1)
    single = LabelScan.draw(view, once, 1).run()
    assert [(finding.position, finding.label) for finding in single] == [
        ("least_sensitive", 0), ("least_sensitive", 1), ("function_name", 0), ("function_name", 1)]  # fmt: skip
    for finding, more in zip(single, findings(1, True), strict=True):
        assert more.best.loss <= finding.best.loss


def test_a_label_is_inverted_on_the_samples_of_the_others() -> None:
    view = make_view(1)
    samples = draw(view, SETTINGS, [0, 1], 1)
    labels = {label: {example.label for example in drawn.examples} for label, drawn in samples.items()}
    assert labels == {0: {0}, 1: {1}}
    assert all(len(drawn.examples) == 6 for drawn in samples.values())
    for finding in findings(1, True):
        assert finding.carriers == samples[1 - finding.label].carriers[finding.position]


def test_samples_without_a_place_are_passed_over_and_a_label_without_any_is_a_user_error() -> None:
    nothing = tuple(Example(f"n{number}", "python", "x = 1", label=1) for number in range(9))
    view = make_view(1)
    mixed = replace(view, clean=(*nothing, *view.clean))
    assert all("def" in example.code for example in draw(mixed, SETTINGS, [1], 3)[1].examples)
    with pytest.raises(UserError, match="no clean sample of label 1"):
        draw(replace(view, clean=nothing), SETTINGS, [1], 3)


def test_samples_are_no_longer_than_asked() -> None:
    view = make_view(1)

    def length(example: Example) -> int:
        return len(view.victim.encode([example.code])[0].ids)

    doubled = tuple(
        replace(example, id=f"twice-{example.id}", code=f"{example.code} {example.code}") for example in view.clean
    )
    mixed = replace(view, clean=(*doubled, *view.clean))
    longest = max(map(length, view.clean))
    short = draw(mixed, SETTINGS.model_copy(update={"sample_tokens": longest}), [0, 1], 1)
    assert all(length(example) <= longest for drawn in short.values() for example in drawn.examples)
    unlimited = draw(mixed, SETTINGS, [0, 1], 1)
    assert any(length(example) > longest for drawn in unlimited.values() for example in drawn.examples)
    # where none is as short, the shortest ones serve
    shortest = draw(mixed, SETTINGS.model_copy(update={"sample_tokens": 3}), [0, 1], 1)
    assert all(length(example) <= longest for drawn in shortest.values() for example in drawn.examples)


def test_leave_one_out_counts_the_shadows_that_the_others_flag() -> None:
    values = {"least_sensitive": {"0": (1.0, 0.9, 0.8, 0.2, 1.1), "1": (0.5, 0.5, 0.6, 0.7, 0.1)}}
    changed = replace(calibration(), losses=values)
    assert calibrations.false_positive_rate(changed, ratio=0.5) == pytest.approx(2 / 5)
    assert calibrations.false_positive_rate(changed, ratio=0.3) == pytest.approx(2 / 5)
    assert calibrations.false_positive_rate(changed, ratio=0.22) == pytest.approx(1 / 5)
    assert calibrations.false_positive_rate(changed, ratio=0.1) == 0


def named(path: Path | str, **changes: object) -> EliBadCodeSettings:
    return SETTINGS.model_copy(update={"calibration": str(path), **changes})


def test_a_calibration_survives_the_file(tmp_path: Path) -> None:
    write_json(tmp_path / "calibration.json", calibrations.as_json(calibration(), 0.5))
    again = calibrations.load(make_view(), named(tmp_path / "calibration.json"))
    assert again == calibration()
    assert again.provenance["shadows"] == [f"shadow{seed}" for seed in range(11, 16)]


def test_a_calibration_that_does_not_fit_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    write_json(path, calibrations.as_json(calibration(), 0.5))
    for change, message in (({"candidates": 8}, "candidates: 16"), ({"iterations": 9}, "iterations: 4")):
        with pytest.raises(UserError, match=message):
            calibrations.load(make_view(), named(path, **change))
    with pytest.raises(UserError, match="made for task"):
        calibrations.load(replace(make_view(), task="clone_detection"), named(path))
    partial = {"least_sensitive": {"0": calibration().losses["least_sensitive"]["0"]}}
    write_json(path, calibrations.as_json(replace(calibration(), losses=partial), 0.5))
    with pytest.raises(UserError, match=r"labels \[1\]"):
        calibrations.load(make_view(), named(path))
    with pytest.raises(UserError, match="neither shipped nor a file"):
        calibrations.load(make_view(), named("nothing"))
    elsewhere = replace(calibration(), provenance={**PROVENANCE, "dataset": {"language": "java", "text_form": "lexed"}})
    write_json(path, calibrations.as_json(elsewhere, 0.5))
    with pytest.raises(UserError, match="of language: java, not python"):
        calibrations.load(make_view(), named(path))
    larger = {**calibrations.model_signature(make_view().victim), "hidden_size": 768}
    write_json(path, calibrations.as_json(replace(calibration(), provenance={**PROVENANCE, "victim": larger}), 0.5))
    with pytest.raises(UserError, match="'hidden_size': 768"):
        calibrations.load(make_view(), named(path))
    otherwise = {**calibrations.model_signature(make_view().victim), "pooling": "max"}
    write_json(path, calibrations.as_json(replace(calibration(), provenance={**PROVENANCE, "victim": otherwise}), 0.5))
    with pytest.raises(UserError, match="'pooling': 'max'"):
        calibrations.load(make_view(), named(path))
    write_json(path, calibrations.as_json(replace(calibration(), provenance={}), 0.5))
    with pytest.raises(UserError, match="does not say on which data set"):
        calibrations.load(make_view(), named(path))
    write_json(path, {"task": TASK})
    with pytest.raises(UserError, match="not a calibration"):
        calibrations.load(make_view(), named(path))


def first_of(losses: dict[str, dict[str, list[Any]]]) -> list[Any]:
    return losses["least_sensitive"]["0"]


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        *(
            (
                lambda losses, value=value: first_of(losses).__setitem__(0, value),
                "not a finite number|no number|not a valid number",
            )
            for value in (math.nan, math.inf, -math.inf, 0, -0.1, "0.1", None, True, [0.1])
        ),
        (lambda losses: first_of(losses).pop(), "losses of 4, 5 models|at least 5 numbers"),
        (lambda losses: first_of(losses).extend([0.1, 0.2]), "losses of 5, 7 models"),
        (lambda losses: losses["least_sensitive"].update({"0": [], "1": []}), "at least 5 numbers"),
        (lambda losses: losses["least_sensitive"].update({"0": 0.1}), "at least 5 numbers"),
        (lambda losses: losses["least_sensitive"].update({"0": "12345"}), "not a finite number"),
        (lambda losses: losses.update({"least_sensitive": {}}), "no losses by label at position 'least_sensitive'"),
        (lambda losses: losses.update({"least_sensitive": [1]}), "no losses by label at position 'least_sensitive'"),
        (lambda losses: losses.clear(), "no losses by position"),
    ],
)
def test_a_damaged_calibration_is_refused(damage: Any, pattern: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    content = calibrations.as_json(calibration(), 0.5)
    damage(content["losses"])
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=pattern) as refused:
        calibrations.read(path)
    assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "change",
    [{"losses": [1]}, {"losses": None}, {"budget": 1}, {"budget": [1]}, {"provenance": None}, {"provenance": "x"}],
)
def test_what_is_shaped_otherwise_is_no_calibration(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    for content in (calibrations.as_json(calibration(), 0.5) | change, [1], 5, "text", None):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=f"^{path}: not a calibration"):
            calibrations.read(path)


def test_losses_that_are_none_calibrate_nothing() -> None:
    scans = {f"s{index}": {"least_sensitive": {"0": 0.5}} for index in range(5)}
    for loss in (math.nan, math.inf, 0.0):
        with pytest.raises(UserError, match="not a finite number above 0"):
            calibrations.make(
                TASK, SETTINGS, "classification", scans | {"s4": {"least_sensitive": {"0": loss}}}, PROVENANCE
            )


def test_a_calibration_of_very_many_models_is_judged_at_once() -> None:
    many = replace(calibration(), losses={"least_sensitive": {"0": tuple(1 + n / 10**5 for n in range(10**5))}})
    assert calibrations.false_positive_rate(many, 0.5) == 0
    assert calibrations.shadow_count(many) == 10**5


def test_fewer_than_five_shadows_or_other_labels_are_refused() -> None:
    losses = table(findings(11, False))
    with pytest.raises(UserError, match="at least 5"):
        calibrations.make(TASK, SETTINGS, "classification", {f"s{index}": losses for index in range(4)}, {})
    odd = {f"s{index}": losses for index in range(5)} | {"odd": {"least_sensitive": losses["least_sensitive"]}}
    with pytest.raises(UserError, match="shadow odd"):
        calibrations.make(TASK, SETTINGS, "classification", odd, {})


@pytest.mark.parametrize("variant", ["elibadcode", "elibadcode_extended"])
def test_the_calibration_of_the_default_study_is_shipped_and_fits(variant: str) -> None:
    config = load([ROOT / "config.yaml"])
    settings, data, victims = config.eliminations[variant], config.datasets["defects"], config.models["codebert"]
    assert isinstance(settings, EliBadCodeSettings)
    assert settings.calibration == "defects"
    shipped = calibrations.read(EliBadCodeSettings.shipped / "defects.json")
    assert (shipped.task, shipped.budget) == (data.task, calibrations.budget(settings, data.head))
    dataset = shipped.provenance["dataset"]
    assert isinstance(dataset, dict)
    # how many rows are kept for validation and test has no part in what the shadows learned
    sizes = {"valid", "test"}
    assert {key: value for key, value in dataset.items() if key not in sizes} == data.model_dump(
        mode="json", exclude=sizes
    )
    recipe = shipped.provenance["recipe"]
    assert isinstance(recipe, dict)
    assert recipe["pooling"] == victims.pooling
    reading = {"pooling": victims.pooling or victims.reads}
    assert [recipe[key] for key in ("epochs", "lr", "batch_tokens")] == [
        victims.epochs,
        victims.lr,
        victims.batch_tokens,
    ]
    base = AutoConfig.from_pretrained(ROOT / f"basemodels/{victims.family}")
    assert shipped.provenance["victim"] == {name: getattr(base, name) for name in calibrations.MAKE} | reading
    labels = {position: set(by_label) for position, by_label in shipped.losses.items()}
    assert labels == {position: {"0", "1"} for position in SCANNED_ALL}
    lengths = [len(losses) for by_label in shipped.losses.values() for losses in by_label.values()]
    assert min(lengths) >= calibrations.SHADOWS
    written = json.loads((EliBadCodeSettings.shipped / "defects.json").read_text(encoding="utf-8"))["leave_one_out"]
    # one of the five loses far less than the others at one place
    assert written == {"ratio": settings.ratio, "false_positive_rate": 0.2}
    assert calibrations.false_positive_rate(shipped, settings.ratio) == 0.2


@pytest.mark.parametrize("names", [["elibadcode"], ["elibadcode", "elibadcode/paper"]], ids=" ".join)
def test_the_grids_make_their_calibrations_and_one_serves_both_variants(names: list[str]) -> None:
    config = load([ROOT / "config.yaml", *(ROOT / f"configs/{name}.yaml" for name in names)])
    paper, extended = config.eliminations["elibadcode"], config.eliminations["elibadcode_extended"]
    assert isinstance(paper, EliBadCodeSettings)
    assert isinstance(extended, EliBadCodeSettings)
    assert paper.calibration == extended.calibration
    assert paper.calibration is not None
    maker = config.eliminations[Path(paper.calibration).stem]
    assert isinstance(maker, EliBadCodeSettings)
    assert paper.calibration.startswith(f"{config.out}/calibration/")
    assert {*paper.positions} | {*extended.positions} <= {*maker.positions}
