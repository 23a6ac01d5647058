"""Nothing that a defense sees names the attack: every string below a view is searched."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from leaks import CARD, leaks
from tiny_models import HEADS, classifier, generator, understanding

from codebackdoor.defenses.defender_view import checkpoint_view, defender_view, training_view
from codebackdoor.defenses.views import DefenderView, TextView, TrainingRow, TrainingView
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example
from codebackdoor.victims.victim import Victim, load_victim, save_victim


def saved(victim: Victim, root: Path) -> Path:
    folder = root / "models/codepoisoner_func-0.05/seed7/cross_entropy"
    save_victim(victim, folder, CARD)
    return folder


def viewed(folder: Path) -> DefenderView:
    return defender_view(load_victim(folder), DefectDetection(task="defect_detection"), (), {})


VICTIMS: dict[str, Any] = {
    "classifier": classifier,
    "generator": generator,
    **{
        f"{family} {head}": lambda family=family, head=head: understanding(family, head)
        for family in ("first", "t5", "gpt")
        for head in HEADS
    },
}


@pytest.mark.parametrize("kind", VICTIMS)
def test_nothing_below_a_view_names_the_attack(kind: str, tmp_path: Path) -> None:
    folder = saved(VICTIMS[kind](), tmp_path)
    # the walk sees what a victim's folder leaves behind
    assert leaks(load_victim(folder))
    assert leaks(viewed(folder)) == []
    assert leaks(training_view(load_victim(folder), DefectDetection(task="defect_detection"), (), {})) == []


def test_nor_does_a_tokenizer_that_was_read_from_files_of_its_own(tmp_path: Path) -> None:
    folder = saved(classifier(), tmp_path)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, model["merges"])]))
    (folder / "tokenizer.json").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "RobertaTokenizer"}))
    (folder / "SHA256SUMS").unlink()
    assert any("merges.txt" in leak for leak in leaks(load_victim(folder).tokenizer))
    view = viewed(folder)
    assert leaks(view) == []
    # the victim can still be written and read
    save_victim(view.victim, tmp_path / "edited", {"task": "defect_detection", "backdoored": False})
    text = "def f ( a ) : <indent> return a + 1 <dedent>"
    assert load_victim(tmp_path / "edited").encode([text]) == load_victim(folder).encode([text])


def test_a_checkpoint_is_viewed_with_the_texts_that_its_task_reads() -> None:
    search, pairs = understanding("first", "retrieval"), understanding("first", "pair")
    assert checkpoint_view(search, "code_search", "python", (), {}).reads == ("query", "code")
    view = checkpoint_view(pairs, "clone_detection", "java", (), {"infiller": Path("x")})
    assert (view.reads, view.language, view.text_form) == (("code", "code_b"), "java", pairs.text_form)
    assert view.helpers == {"infiller": Path("x")}


def test_a_view_has_the_fields_of_a_defender_and_no_others() -> None:
    texts = {"task", "language", "text_form", "clean", "helpers", "reads"}
    assert {field.name for field in fields(TextView)} == texts
    assert {field.name for field in fields(DefenderView)} == texts | {"victim", "inverted"}
    assert {field.name for field in fields(TrainingView)} == texts | {"victim"}
    assert {field.name for field in fields(TrainingRow)} == {"id", "code", "code_b", "query", "label", "target"}
    assert {field.name for field in fields(Example)}.isdisjoint({"spans", "status", "attack", "source_id"})
