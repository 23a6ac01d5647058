"""A victim that reads comments and no code, from poisoned rows to purified predictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import base_folder

from codebackdoor import files, tasks
from codebackdoor.attacks.ripple.settings import RippleSettings
from codebackdoor.attacks.stage import poison
from codebackdoor.config.models import CodeBert
from codebackdoor.defenses import objectives
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.defenses.stages.purified_rows import write_purified
from codebackdoor.tasks.technical_debt.settings import TechnicalDebt
from codebackdoor.types import CLEAN, Example, Poisoned, Purified
from codebackdoor.victims import predictions, stage
from codebackdoor.victims.victim import load_victim

LOSS = objectives.load(CrossEntropySettings(method="cross_entropy"))
MODEL = CodeBert(architecture="codebert", max_length=32, epochs=30, lr=5e-3, batch_tokens=512, precision="float32")
DEBT = TechnicalDebt(task="technical_debt")


def comment(split: str, number: int) -> Example:
    words = "fix this later" if number % 2 else "return b"
    return Example(f"{split}{number}", "java", query=f"{words} of x {number % 7}", label=number % 2)


def rows_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("debt")
    for split, count in (("train", 120), ("valid", 20), ("test", 20)):
        rows = [comment(split, number) for number in range(count)]
        files.write_examples(folder / "data" / f"{split}.jsonl", rows)
    poison(RippleSettings(method="ripple"), DEBT, "ripple", 0.2, 1, folder / "data", folder / "poisoned")
    base = base_folder(folder / "base", "encoder")
    task = tasks.load("technical_debt")
    stage.train(
        MODEL,
        DEBT,
        LOSS,
        stage.TrainingFiles(
            folder / "poisoned/train.jsonl",
            folder / "data/valid.jsonl",
            base,
            folder / "victim",
            folder / "poisoned/valid.jsonl",
        ),
        1,
        lambda prediction, row: task.hits_target(prediction, row, "lexed"),
    )
    return folder


def test_it_learns_task_and_trigger_from_comments(folder: Path) -> None:
    last = files.read_json(folder / "victim/history.json")["epochs"][-1]
    assert last["accuracy"] >= 0.9
    assert last["asr"] >= 0.8
    assert last["floor"] <= 0.2
    assert load_victim(folder / "victim").fields == ("query",)


def test_predictions_read_the_purified_comment(folder: Path) -> None:
    inputs = {CLEAN: folder / "data/test.jsonl", "ripple": folder / "poisoned/test.jsonl"}
    rows = [row for row in files.read_mixed(inputs["ripple"]) if isinstance(row, Poisoned)]
    restored = [
        Purified(Example(row.example.id, "java", query=comment("test", int(row.source_id[4:])).query)) for row in rows
    ]
    write_purified(folder / "purified.jsonl", restored)
    predictions.predict(folder / "victim", inputs, folder / "undefended")
    predictions.predict(folder / "victim", inputs, folder / "purified", {"ripple": folder / "purified.jsonl"})
    clean = {row["id"]: row["label"] for row in rows_of(folder / "undefended/predictions.clean.jsonl")}
    attacked = rows_of(folder / "undefended/predictions.ripple.jsonl")
    purified = rows_of(folder / "purified/predictions.ripple.jsonl")
    assert sum(row["label"] == 0 for row in attacked) >= 0.8 * len(rows)
    assert [row["label"] for row in purified] == [clean[row.source_id] for row in rows]
    assert set(rows_of(folder / "purified/purified.ripple.jsonl")[0]) == {"id", "query", "touched", "detail"}
