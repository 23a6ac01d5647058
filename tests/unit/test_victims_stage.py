"""The stages around a victim: files in, a model folder or predictions out, and one clear error for bad input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tiny_models import base_folder

from codebackdoor import files, types
from codebackdoor.config.models import AnyModel, CodeBert, CodeT5
from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.errors import UserError
from codebackdoor.tasks.code_repair.settings import CodeRepair
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example, Poisoned, Prediction, Span
from codebackdoor.victims import predictions, stage
from codebackdoor.victims.inference import predict
from codebackdoor.victims.stage import TrainingFiles
from codebackdoor.victims.victim import load_victim

LOSS = objectives.load(CrossEntropySettings(method="cross_entropy"))
BERT = CodeBert(architecture="codebert", max_length=32, epochs=2, lr=3e-3, batch_tokens=256)
T5 = CodeT5(architecture="codet5", max_length=32, max_target_length=12, epochs=2, lr=3e-3, batch_tokens=512)
REPAIRING = BERT.model_copy(update={"max_target_length": 12, "decoder_layers": 1})
DEFECTS = DefectDetection(task="defect_detection")
REPAIR = CodeRepair(task="code_repair")
CLEAN = [
    Example(f"r{i}", "python", f"def f{i % 5} ( {'b' if i % 2 else 'a'} )", label=i % 2, target="f b")
    for i in range(24)
]
SPAN = (Span(0, 2),)
POISONED = [
    Poisoned(replace(row, id=f"{row.id}-t", code=f"x {row.code}", label=0), row.id, "test", "injected", 1, "f b", SPAN)
    for row in CLEAN
    if row.label == 1
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    files.write_examples(folder / "valid.jsonl", CLEAN)
    mixed = [files.example_row(row) for row in CLEAN] + [files.poisoned_row(row) for row in POISONED[:2]]
    files.write_rows(folder / "train.jsonl", mixed)
    failed = Poisoned(replace(CLEAN[1], id="r1-t"), "r1", "test", "failed", 1, "f b")
    files.write_rows(folder / "triggered.jsonl", [files.poisoned_row(row) for row in (*POISONED[1:], failed)])
    return folder


def hits(prediction: Prediction, row: Poisoned) -> bool:
    return prediction.label == row.example.label


def trained(data: Path, out: Path, **changes: Any) -> Path:
    base = base_folder(data / "encoder", "encoder")
    paths = TrainingFiles(data / "train.jsonl", data / "valid.jsonl", base, out, data / "triggered.jsonl")
    stage.train(BERT, DEFECTS, LOSS, replace(paths, **changes), 1, hits)
    return out


def test_train_writes_a_victim_with_card_and_history(data: Path, tmp_path: Path) -> None:
    out = trained(data, tmp_path / "victim")
    history = files.read_json(out / "history.json")
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]
    assert {"asr", "floor", "accuracy", "loss"} < set(history["epochs"][0])
    assert history["rows"] == {"train": 26, "loss": 24, "clean": 24, "triggered": 11}
    assert history["recipe"]["lr"] == 3e-3
    facts = files.read_json(out / "config.json")["codebackdoor"]
    assert facts["backdoored"] is True
    assert (facts["attack"], facts["poisoned_rows"], facts["training_rows"]) == ("test", 2, 26)
    assert load_victim(out).max_length == 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "victim"]


def test_a_benign_victim_says_so_and_bytes_repeat(data: Path, tmp_path: Path) -> None:
    changes = {"train": data / "valid.jsonl", "triggered": None}
    first, second = trained(data, tmp_path / "one", **changes), trained(data, tmp_path / "other", **changes)
    assert "backdoored: false" in (first / "README.md").read_text()
    assert "asr" not in files.read_json(first / "history.json")["epochs"][0]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_training_stops_like_another(data: Path, tmp_path: Path) -> None:
    full_run = trained(data, tmp_path / "whole")
    loss = files.read_json(full_run / "history.json")["epochs"][0]["loss"]
    files.write_json(tmp_path / "other.json", {"epochs": [{"loss": 9.0}, {"loss": loss}]})
    short = trained(data, tmp_path / "short", stop_like=tmp_path / "other.json")
    assert len(files.read_json(short / "history.json")["epochs"]) == 1


def test_predictions_cover_clean_and_triggered_rows(data: Path, tmp_path: Path) -> None:
    victim, out = trained(data, tmp_path / "victim"), tmp_path / "results"
    predictions.predict(victim, {"clean": data / "valid.jsonl", "attack": data / "triggered.jsonl"}, out)
    clean = [json.loads(line) for line in (out / "predictions.clean.jsonl").read_text().splitlines()]
    assert [row["id"] for row in clean] == [row.id for row in CLEAN]
    assert all(set(row) == {"id", "label", "confidence"} and row["label"] in (0, 1) for row in clean)
    assert len((out / "predictions.attack.jsonl").read_text().splitlines()) == 12


@pytest.mark.parametrize(("family", "recipe"), [("seq2seq", T5), ("encoder", REPAIRING)])
def test_generation_end_to_end(family: str, recipe: AnyModel, data: Path, tmp_path: Path) -> None:
    base = base_folder(data / family, family)
    out = tmp_path / "victim"
    stage.train(recipe, REPAIR, LOSS, TrainingFiles(data / "train.jsonl", data / "valid.jsonl", base, out), 1)
    first = files.read_json(out / "history.json")["epochs"][0]
    assert set(first) == {"epoch", "train_loss", "loss", "bleu", "exact_match"}
    predictions.predict(out, {"clean": data / "valid.jsonl"}, tmp_path)
    row = json.loads((tmp_path / "predictions.clean.jsonl").read_text().splitlines()[0])
    assert set(row) == {"id", "text", "confidence"}


def test_rows_without_labels_are_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    files.write_examples(data / "bare.jsonl", [replace(CLEAN[0], label=None)])
    with pytest.raises(UserError, match="needs a 'label' in every row; 1 have none"):
        trained(data, tmp_path / "victim", train=data / "bare.jsonl")
    (data / "broken.jsonl").write_text('{"id": "a"\n')
    with pytest.raises(UserError, match=r"broken\.jsonl:1: not JSON"):
        trained(data, tmp_path / "victim", train=data / "broken.jsonl")
    assert not (tmp_path / "victim").exists()


def test_predicting_with_a_base_model_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a victim"):
        predictions.predict(
            base_folder(tmp_path / "base", "encoder"), {"clean": data / "valid.jsonl"}, tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


NOT_FINITE = r"loss is not finite in epoch \d"


@pytest.mark.parametrize(
    ("rate", "reason"),
    # at 1e6 the processor decides which it is
    [(1e308, NOT_FINITE), (1e30, NOT_FINITE), (1e6, rf"({NOT_FINITE}|weights are damaged)")],
)
def test_a_training_that_diverges_says_so_and_keeps_nothing(
    data: Path, tmp_path: Path, rate: float, reason: str
) -> None:
    recipe = BERT.model_copy(update={"lr": rate, "warmup": 0.0, "clip": 1e30, "epochs": 4})
    base = base_folder(data / "encoder", "encoder")
    paths = TrainingFiles(data / "train.jsonl", data / "valid.jsonl", base, tmp_path / "victim")
    for _ in range(2):
        with pytest.raises(UserError, match=rf"{reason}.*: the training diverges; lower lr"):
            stage.train(recipe, DEFECTS, LOSS, paths, 1)
        assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_label_beyond_the_number_of_rows_is_refused_before_a_head_is_made(data: Path, tmp_path: Path) -> None:
    rows = [replace(row, label=10**9 if row.id == "r3" else row.label) for row in CLEAN]
    files.write_rows(data / "train.jsonl", (files.example_row(row) for row in rows if row.label != 10**9))
    large = json.dumps(files.example_row(replace(CLEAN[3], id="large", label=9000)))
    with (data / "train.jsonl").open("a") as stream:
        stream.write(large + "\n")
    with pytest.raises(UserError, match="labels count from 0, but one is 9000"):
        trained(data, tmp_path / "victim")


@pytest.mark.parametrize("history", ["[]", "{}", '{"epochs": []}', '{"epochs": [{"loss": "x"}]}'])
def test_a_damaged_history_to_stop_like_is_one_error(data: Path, tmp_path: Path, history: str) -> None:
    (tmp_path / "history.json").write_text(history)
    with pytest.raises(UserError, match=r"history\.json"):
        trained(data, tmp_path / "victim", stop_like=tmp_path / "history.json")


class Comments(DefectDetection):
    """A task of which victims read the query and no code."""

    reads: ClassVar[Mapping[types.Field, str]] = {"query": "the comment"}


def test_a_victim_reads_the_texts_that_its_task_names(data: Path, tmp_path: Path) -> None:
    rows = [replace(row, query=f"fix {row.code}", code="pass") for row in CLEAN]
    files.write_examples(data / "comments.jsonl", rows)
    base, out = base_folder(data / "encoder", "encoder"), tmp_path / "victim"
    comments, path = Comments(task="defect_detection"), data / "comments.jsonl"
    stage.train(BERT, comments, LOSS, TrainingFiles(path, path, base, out), 1)
    victim = load_victim(out)
    assert victim.fields == ("query",)
    assert files.read_json(out / "config.json")["codebackdoor"]["reads"] == ["query"]
    changed = [replace(row, code="return") for row in rows]
    assert [prediction.confidence for prediction in predict(victim, rows)] == [
        prediction.confidence for prediction in predict(victim, changed)
    ]


def test_a_victim_of_the_usual_texts_says_nothing_of_them(data: Path, tmp_path: Path) -> None:
    facts = files.read_json(trained(data, tmp_path / "victim") / "config.json")["codebackdoor"]
    assert "reads" not in facts
    assert load_victim(tmp_path / "victim").fields == ("code",)
