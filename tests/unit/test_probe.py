"""The probe of positions on a planted victim: the trigger works everywhere, a perturbation is made of other pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import PLANTED, sample, victim, view

from codebackdoor import files
from codebackdoor.defenses.elimination.elibadcode.probe import probe, without
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.vocabulary import build
from codebackdoor.errors import UserError
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example, Poisoned, Span
from codebackdoor.victims.victim import save_victim

DATASET = DefectDetection(task="defect_detection")
SETTINGS = EliBadCodeSettings(method="elibadcode", length=3, iterations=3, top_k=16, candidates=16)
TRIGGER = f"load_{PLANTED}"


def poisoned(example: Example, text: str = TRIGGER) -> Poisoned:
    """The function takes the trigger's name."""
    code = f"def {text} (" + example.code.partition("(")[2]
    row = Example(f"t{example.id}", "python", code, label=0)
    return Poisoned(row, example.id, "planted", "injected", example.label, None, (Span(4, 4 + len(text)),))


def probed(tmp_path: Path, text: str = TRIGGER) -> Any:
    clean = [sample(number) for number in range(1, 12, 2)]
    files.write_examples(tmp_path / "test.jsonl", clean)
    files.write_rows(tmp_path / "triggered.jsonl", (files.poisoned_row(poisoned(one, text)) for one in clean))
    save_victim(victim(1, True), tmp_path / "victim", {"task": "defect_detection", "backdoored": True})
    for out in ("one", "other"):
        probe(
            SETTINGS,
            DATASET,
            tmp_path / "victim",
            tmp_path / "triggered.jsonl",
            tmp_path / "test.jsonl",
            tmp_path / out,
            1,
        )
    assert (tmp_path / "one/positions.json").read_bytes() == (tmp_path / "other/positions.json").read_bytes()
    return files.read_json(tmp_path / "one/positions.json")


def test_a_planted_trigger_works_at_every_identifier(tmp_path: Path) -> None:
    found = probed(tmp_path)
    assert found["budget"]["length"] == 3
    assert found["samples"]
    for one in found["samples"]:
        places = one["positions"]
        assert len(places) >= 4
        assert (one["target"], one["trigger"]) == (0, TRIGGER)
        assert one["before"] < 0.5 < min(place["trigger"] for place in places)
        assert PLANTED not in one["perturbation"]
        # each identifier once, the function's name first
        assert len({place["name"] for place in places}) == len(places)
        assert all(place["change"] >= 0 for place in places)


def test_the_search_has_no_piece_of_the_trigger() -> None:
    whole = build(view().victim.tokenizer, "paper", "python", [True])
    found = without(whole, TRIGGER)
    assert PLANTED in whole.pieces
    assert not [piece for piece in found.pieces if piece in TRIGGER]
    assert len(found) == len(found.plain) == len(found.spaced)
    table = whole.tokenizer.get_vocab()
    assert [table[piece] for piece in found.pieces] == found.plain.tolist()
    assert {found.pieces[index] for index in found.first} == {
        piece for index in whole.first if (piece := whole.pieces[index]) not in TRIGGER
    }


def test_a_trigger_that_is_no_identifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a trigger that is an identifier"):
        probed(tmp_path, "1 + 1")
