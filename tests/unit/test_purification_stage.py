"""The stages ``purify`` and ``rewrite``: files in, files out; the method is shown nothing but texts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from purification_models import example, infiller, language_model
from tiny_models import classifier

from codebackdoor import cli, files
from codebackdoor.defenses import rewriting, stage
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.purification.similarity.settings import SimilaritySettings
from codebackdoor.errors import UserError
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example, Poisoned, Span
from codebackdoor.victims import predictions
from codebackdoor.victims.inference import predict
from codebackdoor.victims.victim import load_victim, save_victim


def test_purified_and_predicted_rows_of_every_test_set(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    save_victim(classifier(), tmp_path / "victim", {"task": "defect_detection", "backdoored": True})
    model, tokenizer = infiller()
    model.save_pretrained(tmp_path / "infiller")
    tokenizer.save_pretrained(tmp_path / "infiller")
    clean = [replace(example(number), label=number % 2) for number in range(20)]
    triggered = [
        Poisoned(
            replace(example(number, "assert 1 >= 0"), id=f"t{number}", label=0), str(number), "a", "injected", 1, None
        )
        for number in range(1, 8)
    ]
    triggered[-1] = replace(triggered[-1], status="failed", spans=(Span(0, 1),))
    files.write_examples(tmp_path / "valid.jsonl", clean)
    files.write_examples(tmp_path / "test.jsonl", clean)
    files.write_rows(tmp_path / "triggered.jsonl", map(files.poisoned_row, triggered))
    dataset = DefectDetection(task="defect_detection")
    inputs = {"clean": tmp_path / "test.jsonl", "a": tmp_path / "triggered.jsonl"}
    helpers = {"infiller": tmp_path / "infiller"}
    for out in ("first", "second"):
        settings = CodePurifySettings(method="codepurify", touched_share=0.5)
        stage.purify(
            settings, dataset, tmp_path / "victim", tmp_path / "valid.jsonl", inputs, helpers, tmp_path / out, 3
        )
    texts = {
        name: [row.code for row in rows] for name, rows in (("clean", clean), ("a", [t.example for t in triggered]))
    }
    victim = load_victim(tmp_path / "victim")
    for name, ids in (("clean", [row.id for row in clean]), ("a", [row.example.id for row in triggered])):
        rows = [row for _, row in files.read_rows(tmp_path / "first" / f"purified.{name}.jsonl")]
        predictions = [row for _, row in files.read_rows(tmp_path / "first" / f"predictions.{name}.jsonl")]
        assert [row["id"] for row in rows] == [row["id"] for row in predictions] == ids
        assert all(set(row) == {"id", "label", "confidence"} for row in predictions)
        for row, old in zip(rows, texts[name], strict=True):
            assert bool(row["touched"]) == (row["code"] != old) == row["detail"]["poisoned"]
        again = predict(victim, [Example(row["id"], "python", row["code"]) for row in rows])
        assert [row["label"] for row in predictions] == [prediction.label for prediction in again]
    for file in sorted((tmp_path / "first").iterdir()):
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()
    assert json.loads((tmp_path / "first" / "purified.a.jsonl").read_text().splitlines()[0])["detail"]["profile"]


def test_what_is_rewritten_once_is_what_each_victim_would_have_purified(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    save_victim(classifier(), tmp_path / "victim", {"task": "defect_detection", "backdoored": True})
    model, tokenizer = language_model()
    model.save_pretrained(tmp_path / "causal")
    tokenizer.save_pretrained(tmp_path / "causal")
    valid, test = tmp_path / "valid.jsonl", tmp_path / "test.jsonl"
    rows = [replace(example(number), label=number % 2) for number in range(20)]
    files.write_examples(valid, rows)
    files.write_examples(test, rows)
    dataset, helpers = DefectDetection(task="defect_detection"), {"language_model": tmp_path / "causal"}
    settings = OnionSettings(method="onion", removed_share=0.1, calibration_inputs=20)
    stage.purify(settings, dataset, tmp_path / "victim", valid, {"clean": test}, helpers, tmp_path / "own", 3)
    rewriting.rewrite(settings, dataset, valid, test, helpers, tmp_path / "all", 3)
    shared = {"clean": tmp_path / "all/purified.jsonl"}
    predictions.predict(tmp_path / "victim", {"clean": test}, tmp_path / "out", shared)
    for name in ("purified.clean.jsonl", "predictions.clean.jsonl"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert any(row["touched"] for _, row in files.read_rows(tmp_path / "out/purified.clean.jsonl"))
    shared["clean"].write_text("".join(shared["clean"].read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="was not rewritten"):
        predictions.predict(tmp_path / "victim", {"clean": test}, tmp_path / "out2", shared)
    assert not (tmp_path / "out2").exists()


def test_the_similarity_filter_reads_the_trigger_of_the_elimination(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    victim = classifier()
    save_victim(victim, tmp_path / "victim", {"task": "defect_detection", "backdoored": True})
    rows = [replace(example(number), label=number % 2) for number in range(6)]
    for name in ("valid", "test"):
        files.write_examples(tmp_path / f"{name}.jsonl", rows)
    trigger = victim.tokenizer(" def", add_special_tokens=False)["input_ids"]
    files.write_json(tmp_path / "trigger.json", {"flagged": True, "token_ids": trigger})
    files.write_json(tmp_path / "null.json", None)
    settings, dataset = SimilaritySettings(method="similarity"), DefectDetection(task="defect_detection")
    arguments = (
        settings,
        dataset,
        tmp_path / "victim",
        tmp_path / "valid.jsonl",
        {"clean": tmp_path / "test.jsonl"},
        {},
    )
    stage.purify(*arguments, tmp_path / "out", 3, tmp_path / "trigger.json")
    purified = [row for _, row in files.read_rows(tmp_path / "out/purified.clean.jsonl")]
    assert all(row["touched"] and row["detail"]["trigger"] for row in purified)
    assert len(list(files.read_rows(tmp_path / "out/predictions.clean.jsonl"))) == len(rows)
    with pytest.raises(UserError, match="needs the trigger of an elimination before it"):
        stage.purify(*arguments, tmp_path / "none", 3, tmp_path / "null.json")


def test_without_a_trigger_the_command_says_what_to_write(tmp_path: Path) -> None:
    for name in ("victim", "valid"):
        (tmp_path / name).mkdir()
    result = CliRunner().invoke(
        cli.main,
        [
            *("purify", "--settings", '{"method": "similarity"}', "--dataset", '{"task": "defect_detection"}'),
            *("--victim", str(tmp_path / "victim"), "--valid", str(tmp_path / "valid")),
            *("--input", f"clean={tmp_path / 'valid'}", "--out", str(tmp_path / "out"), "--seed", "1"),
        ],
    )
    assert result.exit_code != 0
    assert "name the trigger.json of an elimination with --trigger" in str(result.exception) + result.output
