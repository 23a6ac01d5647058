"""The stages ``eliminate`` and ``calibrate``: victim folders in, an edited victim or a calibration out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from planted import PLANTED, sample, victim

from codebackdoor import files
from codebackdoor.defenses.elimination import Inversion, Trigger
from codebackdoor.defenses.elimination.dbs.settings import DbsSettings
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.fine_tuning.settings import FineTuningSettings
from codebackdoor.defenses.elimination.inversion.calibration import losses as calibrations
from codebackdoor.defenses.elimination.inversion.calibration.stage import calibrate
from codebackdoor.defenses.elimination.inversion.settings import UnlearningSettings
from codebackdoor.defenses.stages.eliminate import eliminate
from codebackdoor.defenses.stages.job import DefenseJob
from codebackdoor.errors import UserError
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.victims.victim import load_victim, save_victim

DATASET = DefectDetection(task="defect_detection")
CARD = {"task": "defect_detection", "backdoored": True, "attack": "planted", "rate": 0.05}
SEARCH = EliBadCodeSettings(
    method="elibadcode",
    position="function_name",
    samples=6,
    length=3,
    iterations=4,
    top_k=16,
    candidates=16,
    restarts=2,
)

DBS = DbsSettings(method="dbs", position="function_name", samples=6, iterations=4, check_every=2)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    files.write_examples(tmp_path / "clean.jsonl", [sample(number) for number in range(40)])
    return tmp_path / "clean.jsonl"


def test_an_edited_victim_keeps_its_card_and_says_what_was_done(tmp_path: Path, clean: Path) -> None:
    save_victim(victim(1, True), tmp_path / "victim", CARD)
    settings = FineTuningSettings(method="fine_tuning", epochs=1, layers="all")
    for out in ("one", "other"):
        eliminate(settings, DefenseJob(DATASET, tmp_path / "victim", clean, tmp_path / out, 1))
    card = load_victim(tmp_path / "one").model.config.codebackdoor
    assert CARD.items() <= card.items()
    assert card["elimination"] == settings.model_dump(mode="json")
    assert files.read_json(tmp_path / "one/trigger.json") is None
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()
    assert (tmp_path / "one/model.safetensors").read_bytes() != (tmp_path / "victim/model.safetensors").read_bytes()


@pytest.mark.parametrize("settings", [SEARCH, DBS])
def test_a_search_that_was_done_is_not_done_again_and_ends_with_the_same_bytes(
    tmp_path: Path, clean: Path, settings: EliBadCodeSettings | DbsSettings
) -> None:
    save_victim(victim(1, True), tmp_path / "victim", CARD)
    settings = settings.model_copy(update={"position": "scan"})
    at_scanned = UnlearningSettings(rate=0.5, layers="all", places="scanned")
    unlearning = settings.model_copy(update={"unlearning": at_scanned})

    def run(variant: EliBadCodeSettings | DbsSettings, out: str, inverted: Path | None = None) -> dict[str, float]:
        folder = tmp_path / out
        seconds = eliminate(variant, DefenseJob(DATASET, tmp_path / "victim", clean, folder, 1), inverted=inverted)
        files.write_json(folder / "provenance.json", {"phases": seconds})
        return seconds

    first, _ = run(settings, "first"), run(unlearning, "own")
    reused = run(unlearning, "taken", tmp_path / "first")
    assert reused["inversion"] == first["inversion"]
    for name in ("trigger.json", "elimination.json", "model.safetensors", "config.json"):
        assert (tmp_path / "taken" / name).read_bytes() == (tmp_path / "own" / name).read_bytes()
    assert (tmp_path / "own/model.safetensors").read_bytes() != (tmp_path / "first/model.safetensors").read_bytes()


TRIGGER = Trigger(
    text="ret_Val",
    token_ids=(7, 9),
    target_label=0,
    flagged=True,
    position="function_name",
    occurrences="one",
    loss=0.125,
    inverted_text="ret_Val_x",
    inverted_ids=(7, 9, 3),
    inverted_loss=0.1,
    margin=None,
    losses={"function_name": {"0": 0.1, "1": 2.0}},
)


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    """Folder of an elimination that has searched and unlearned."""
    files.write_json(tmp_path / "trigger.json", asdict(TRIGGER))
    files.write_json(tmp_path / "elimination.json", {"searches": [], "unlearning": [1.0]})
    files.write_json(tmp_path / "provenance.json", {"phases": {"inversion": 3.5, "unlearning": 2.0}})
    return tmp_path


def test_of_a_search_that_was_done_nothing_of_its_unlearning_is_taken_over(searched: Path) -> None:
    assert Inversion.read(searched) == Inversion(TRIGGER, {"searches": []}, {"inversion": 3.5})
    files.write_json(searched / "provenance.json", {})
    assert Inversion.read(searched).seconds == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("trigger", None, "holds no inverted trigger"),
        ("trigger", asdict(TRIGGER) | {"losses": [0.1]}, "holds no inverted trigger"),
        ("elimination", [], "expected a JSON object"),
        ("provenance", None, "expected a JSON object"),
    ],
)
def test_a_folder_without_an_inverted_trigger_is_said_before_anything_is_done(
    searched: Path, name: str, content: object, message: str
) -> None:
    files.write_json(searched / f"{name}.json", content)
    with pytest.raises(UserError, match=f"{name}.json: {message}"):
        Inversion.read(searched)


def test_a_method_without_a_trigger_refuses_that_of_another_elimination(tmp_path: Path, clean: Path) -> None:
    job = DefenseJob(DATASET, tmp_path / "victim", clean, tmp_path / "out", 1)
    with pytest.raises(UserError, match="fine_tuning inverts no trigger; leave out --inverted"):
        eliminate(FineTuningSettings(method="fine_tuning"), job, inverted=tmp_path / "earlier")


def test_the_inverted_trigger_is_written_out(tmp_path: Path, clean: Path) -> None:
    save_victim(victim(1, True), tmp_path / "victim", CARD)
    seconds = eliminate(SEARCH, DefenseJob(DATASET, tmp_path / "victim", clean, tmp_path / "out", 1))
    assert seconds.keys() == {"inversion", "unlearning"}
    assert min(seconds.values()) > 0
    trigger = files.read_json(tmp_path / "out/trigger.json")
    assert (trigger["target_label"], trigger["flagged"]) == (0, True)
    assert PLANTED in trigger["text"]
    assert {"searches", "anchoring", "unlearning"} <= files.read_json(tmp_path / "out/elimination.json").keys()


def test_a_calibration_is_made_from_benign_victims_and_read_again(tmp_path: Path, clean: Path) -> None:
    folders = {seed: tmp_path / f"shadow{seed}" for seed in range(11, 16)}
    for seed, folder in folders.items():
        save_victim(victim(seed, False), folder, CARD | {"backdoored": False})
        files.write_json(folder / "history.json", {"recipe": {"epochs": 3}})
    out = tmp_path / "calibration.json"
    calibrate(SEARCH, DATASET, folders, clean, out)
    calibration = calibrations.read(out)
    assert (calibration.task, calibration.budget) == ("defect_detection", calibrations.budget(SEARCH, "classification"))
    assert calibration.provenance["dataset"] == DATASET.model_dump(mode="json")
    assert calibration.provenance["recipe"] == {"epochs": 3}
    assert calibration.provenance["victim"] == calibrations.model_signature(victim(11, False))
    assert [len(losses) for losses in calibration.losses["function_name"].values()] == [5, 5]
    save_victim(victim(1, False), tmp_path / "benign", CARD)
    calibrated = SEARCH.model_copy(update={"calibration": str(out)})
    eliminate(calibrated, DefenseJob(DATASET, tmp_path / "benign", clean, tmp_path / "kept", 1))
    assert not files.read_json(tmp_path / "kept/trigger.json")["flagged"]
    with pytest.raises(UserError, match="at least 5"):
        calibrate(SEARCH, DATASET, dict(list(folders.items())[:4]), clean, tmp_path / "few.json")
    assert not (tmp_path / "few.json").exists()
    files.write_json(folders[12] / "history.json", {"recipe": {"epochs": 4}})
    with pytest.raises(UserError, match="not all trained by the same recipe"):
        calibrate(SEARCH, DATASET, folders, clean, tmp_path / "mixed.json")
