"""The probe of positions on a planted victim: the trigger works everywhere, a perturbation is made of other pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import PLANTED, make_view, sample, victim

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
    files.write_rows(tmp_path / "triggered.jsonl", (files.poisoned_row(poisoned(row, text)) for row in clean))
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
    result = probed(tmp_path)
    assert result["budget"]["length"] == 3
    assert result["samples"]
    for row in result["samples"]:
        positions = row["positions"]
        assert len(positions) >= 4
        assert (row["target"], row["trigger"]) == (0, TRIGGER)
        assert row["before"] < 0.5 < min(position["trigger"] for position in positions)
        assert PLANTED not in row["perturbation"]
        # each identifier once, the function's name first
        assert len({position["name"] for position in positions}) == len(positions)
        assert all(position["change"] >= 0 for position in positions)


def test_the_search_has_no_piece_of_the_trigger() -> None:
    complete = build(make_view().victim.tokenizer, "paper", "python", [True])
    vocabulary = without(complete, TRIGGER)
    assert PLANTED in complete.pieces
    assert not [piece for piece in vocabulary.pieces if piece in TRIGGER]
    assert len(vocabulary) == len(vocabulary.plain) == len(vocabulary.spaced)
    table = complete.tokenizer.get_vocab()
    assert [table[piece] for piece in vocabulary.pieces] == vocabulary.plain.tolist()
    assert {vocabulary.pieces[index] for index in vocabulary.first} == {
        piece for index in complete.first if (piece := complete.pieces[index]) not in TRIGGER
    }


def test_a_trigger_that_is_no_identifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a trigger that is an identifier"):
        probed(tmp_path, "1 + 1")
