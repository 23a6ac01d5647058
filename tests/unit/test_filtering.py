"""ONION on training rows: suspicion of a row, the threshold from clean samples, and the stage (ledger E24)."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from purification_models import example, language_model, trained_language_model

from codebackdoor import files
from codebackdoor.defenses.filtering.onion.method import OnionFilter, Suspect
from codebackdoor.defenses.filtering.onion.settings import OnionFilterSettings
from codebackdoor.defenses.stages.sift import sift
from codebackdoor.defenses.suspicion.word_scores import WordScorer
from codebackdoor.defenses.views import TextView, TrainingRow
from codebackdoor.errors import UserError
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example, Poisoned, Span

NUMBERS = list(range(100, 260))
random.Random(0).shuffle(NUMBERS)
CLEAN, FRESH = (tuple(example(number) for number in part) for part in (NUMBERS[:60], NUMBERS[60:]))
#: The planted word, at a place where no function of ``example`` has one.
RARE = [replace(row, code=row.code.replace("return", "testo_init return", 1)) for row in FRESH[:30]]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def sifter(clean: tuple[Example, ...] = CLEAN, trained: bool = True, **settings: Any) -> OnionFilter:
    view = TextView("defect_detection", "python", "lexed", clean)
    scorer = WordScorer(view, *(trained_language_model() if trained else language_model()))
    return OnionFilter(view, scorer, OnionFilterSettings.model_validate({"method": "onion", **settings}), 1)


def dropped(method: OnionFilter, rows: list[Example] | tuple[Example, ...]) -> float:
    judged = method.judge([TrainingRow(row.id, row.code, row.code_b, row.query, row.label, row.target) for row in rows])
    return sum(row.dropped for row in judged) / len(rows)


def test_clean_samples_without_any_score_give_no_threshold() -> None:
    with pytest.raises(UserError, match="no word of 0 clean samples has a score"):
        sifter(clean=())
    # an identifier is what these lack
    bare = tuple(replace(row, code="return 1") for row in CLEAN[:3])
    with pytest.raises(UserError, match="no word of 3 clean samples"):
        sifter(clean=bare, words="identifiers")
    assert sifter(clean=bare, words="identifiers", threshold=1.0).threshold == 1.0


def test_a_row_with_a_word_that_the_language_model_did_not_foresee_is_dropped_and_clean_ones_at_the_share() -> None:
    method = sifter(dropped_share=0.1)
    assert dropped(method, RARE) >= 0.9
    # the sixth of 60 samples, and then 100 others: a standard error of 0.05
    assert dropped(method, FRESH) == pytest.approx(0.1, abs=0.15)
    # an untrained model is equally surprised by everything: it is the language model that finds the rows
    assert dropped(sifter(trained=False, dropped_share=0.1), RARE) < 0.5


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_threshold_lets_the_stated_share_of_the_clean_samples_go(share: float) -> None:
    method = sifter(dropped_share=share)
    # in other batches, the sample at the threshold may be above it by a rounding error
    assert dropped(method, CLEAN) == pytest.approx(share, abs=1.5 / len(CLEAN))
    assert method.facts == {"threshold": round(method.threshold, 6), "calibration_inputs": len(CLEAN)}


def test_suspicion_is_the_largest_fall_of_the_perplexity_and_its_word() -> None:
    method = sifter(threshold=0.0)
    for row, suspect, scored in zip(FRESH, method.suspects(FRESH), method._scorer.score(FRESH), strict=True):
        assert suspect.drop == max(scored.drops)
        start, end = scored.words[scored.drops.index(suspect.drop)]
        assert suspect.word == row.code[start:end]
    assert {suspect.word for suspect in method.suspects(RARE)} == {"testo_init"}


def test_a_given_threshold_is_not_calibrated() -> None:
    method = sifter(clean=(), threshold=1e9)
    assert dropped(method, RARE) == 0
    assert method.facts == {"threshold": 1e9, "calibration_inputs": 0}
    # the suspicion must be above the threshold
    (suspect,) = method.suspects(RARE[:1])
    assert dropped(sifter(clean=(), threshold=suspect.drop), RARE[:1]) == 0
    assert dropped(sifter(clean=(), threshold=math.nextafter(suspect.drop, 0)), RARE[:1]) == 1


def test_of_a_pair_either_function_gives_the_row_away_and_of_a_search_row_the_code_alone() -> None:
    method = sifter(threshold=0.0)
    (rare,), (plain,) = method.suspects(RARE[:1]), method.suspects(FRESH[1:2])
    assert rare.drop > plain.drop
    pairs = [replace(a, code_b=b.code) for a, b in ((RARE[0], FRESH[1]), (FRESH[1], RARE[0]), (FRESH[1], FRESH[1]))]
    searched = replace(FRESH[1], query="testo_init testo_init", target="testo_init")
    for rows, expected in (
        (pairs, [rare, rare, plain]),
        # among pairs and single functions, each row gets its own
        ([pairs[2], RARE[0], pairs[0]], [plain, rare, rare]),
        ([searched], [plain]),
    ):
        suspects = method.suspects(rows)
        assert [suspect.word for suspect in suspects] == [suspect.word for suspect in expected]
        assert [suspect.drop for suspect in suspects] == pytest.approx([suspect.drop for suspect in expected], rel=1e-4)


def test_asked_for_identifiers_other_words_say_nothing() -> None:
    noisy = [replace(row, code=row.code.replace("return", "' %% @@ ' return", 1)) for row in FRESH[:10]]
    everything, names = sifter(threshold=0.0), sifter(threshold=0.0, words="identifiers")
    assert {suspect.word for suspect in everything.suspects(noisy)} == {"' %% @@ '"}
    assert all(suspect.word.isidentifier() for suspect in names.suspects(noisy))
    assert {suspect.word for suspect in names.suspects(RARE)} == {"testo_init"}


def test_a_row_without_a_word_is_kept() -> None:
    empty = Example("1", "python", "<nl>")
    method = sifter(threshold=-1e9)
    assert method.suspects([empty]) == [Suspect()]
    assert dropped(method, [empty]) == 0
    assert dropped(method, RARE) == 1


class Folder:
    """A poisoned training set, clean samples and a language model on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for part in trained_language_model():
            part.save_pretrained(root / "causal")
        files.write_examples(root / "clean.jsonl", CLEAN)
        plain = [replace(row, label=number % 2) for number, row in enumerate(FRESH[30:])]
        poisoned = [
            Poisoned(replace(row, label=0), row.id, "a", "injected", 1, None, (Span(0, 1),)) for row in RARE[:20]
        ]
        failed = Poisoned(replace(FRESH[20], id="failed", label=1), FRESH[20].id, "a", "failed", 1, None)
        self.rows: list[Example | Poisoned] = [*plain, *poisoned, failed]
        random.Random(1).shuffle(self.rows)
        files.write_rows(
            root / "train.jsonl",
            (files.poisoned_row(row) if isinstance(row, Poisoned) else files.example_row(row) for row in self.rows),
        )

    def sift(self, out: str, **settings: Any) -> Path:
        sifting = OnionFilterSettings.model_validate({"method": "onion", **(settings or {"dropped_share": 0.1})})
        train, clean = (self.root / name for name in ("train.jsonl", "clean.jsonl"))
        helpers = {"language_model": self.root / "causal"}
        dataset = DefectDetection(task="defect_detection")
        sift(sifting, dataset, train, clean, helpers, self.root / out, 3)
        return self.root / out


def test_what_is_kept_stands_as_it_was_and_the_report_counts_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    out, again = folder.sift("first"), folder.sift("second")
    judged = [row for _, row in files.read_rows(out / "judged.jsonl")]
    ids = [row.example.id if isinstance(row, Poisoned) else row.id for row in folder.rows]
    assert [row["id"] for row in judged] == ids
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    kept = [line for line, row in zip(lines, judged, strict=True) if not row["dropped"]]
    assert (out / "train.jsonl").read_text().splitlines() == kept
    report = json.loads((out / "filtering.json").read_text())
    assert report["method"] == "onion"
    assert all(row["dropped"] == (row["suspicion"] > report["threshold"]) for row in judged)
    rows = report["rows"]
    assert {name: counts["there"] for name, counts in rows.items()} == {"all": 91, "poisoned": 20, "clean": 71}
    assert rows["all"]["dropped"] == 91 - len(kept) == rows["poisoned"]["dropped"] + rows["clean"]["dropped"]
    # the method was not told which ones
    assert rows["poisoned"]["share"] > 0.8 > 0.3 > rows["clean"]["share"]
    for file in out.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes()


def test_nothing_dropped_is_the_training_set_byte_for_byte(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert (folder.sift("out", dropped_share=0) / "train.jsonl").read_bytes() == (tmp_path / "train.jsonl").read_bytes()


def test_a_training_set_of_which_nothing_is_left_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"all \d+ rows of .*would be dropped; set a lower share, a higher threshold"):
        Folder(tmp_path).sift("out", threshold=-1e9)
    assert not (tmp_path / "out").exists()


def test_the_verdict_knows_no_provenance(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with_it = files.read_rows(folder.sift("first") / "judged.jsonl")
    plain = [row.example if isinstance(row, Poisoned) else row for row in folder.rows]
    files.write_examples(tmp_path / "train.jsonl", [replace(row, label=0) for row in plain])
    without = files.read_rows(folder.sift("second") / "judged.jsonl")
    assert list(with_it) == list(without)
    report = json.loads((tmp_path / "second/filtering.json").read_text())
    assert report["rows"]["poisoned"] == {"there": 0, "dropped": 0, "share": None}
