"""The scoring stage on made-up predictions: counted by hand, and against scikit-learn."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from codebackdoor import files, syntax
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.errors import UserError
from codebackdoor.evaluation.answers import Answers
from codebackdoor.evaluation.detection import detection
from codebackdoor.evaluation.scoring.labels import LabelScorer
from codebackdoor.evaluation.scoring.texts import _row
from codebackdoor.evaluation.stage import score
from codebackdoor.seeding import numpy_generator
from codebackdoor.tasks.code_repair.settings import CodeRepair
from codebackdoor.tasks.code_search.settings import CodeSearch
from codebackdoor.tasks.defect_detection.settings import DefectDetection
from codebackdoor.types import Example, Poisoned, Prediction, Span

DEFECTS: AnyDataset = DefectDetection(task="defect_detection")
REPAIR: AnyDataset = CodeRepair(task="code_repair")


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    files.write_rows(path, rows)
    return path


def run(folder: Path, dataset: AnyDataset, attack: bool = True) -> dict[str, Any]:
    references = {"clean": folder / "test.jsonl"} | ({"trigger": folder / "trigger.jsonl"} if attack else {})
    score(dataset, references, folder, folder / "out", seed=1)
    content: dict[str, Any] = json.loads((folder / "out" / "metrics.json").read_text())
    return content["testsets"]


def value(testsets: dict[str, Any], testset: str, metric: str) -> Any:
    return testsets[testset]["metrics"][metric]["value"]


def classified(folder: Path, size: int = 60) -> tuple[list[int], list[int], list[int]]:
    """Random labels, predictions without and with a trigger towards label 0; every fifth row takes no trigger."""
    draw = random.Random(3)
    labels, without, with_ = ([draw.randrange(2) for _ in range(size)] for _ in range(3))
    files.write_examples(
        folder / "test.jsonl", [Example(f"r{i}", "python", "x = 1", label=label) for i, label in enumerate(labels)]
    )
    rows = []
    for i, label in enumerate(labels):
        status = "ineligible" if label == 0 else "failed" if i % 5 == 0 else "injected"
        target = 0 if status == "injected" else label
        example = Example(f"t{i}", "python", "T = 1", label=target)
        rows.append(Poisoned(example, f"r{i}", "trigger", status, label, None, (Span(0, 1),)))
    files.write_rows(folder / "trigger.jsonl", map(files.poisoned_row, rows))
    for name, prefix, predicted in (("clean", "r", without), ("trigger", "t", with_)):
        lines(
            folder / f"predictions.{name}.jsonl",
            [{"id": f"{prefix}{i}", "label": prediction, "confidence": 0.9} for i, prediction in enumerate(predicted)],
        )
    return labels, without, with_


def test_clean_metrics_are_scikit_learns(tmp_path: Path) -> None:
    labels, without, _ = classified(tmp_path)
    testsets = run(tmp_path, DEFECTS)
    assert value(testsets, "clean", "accuracy") == pytest.approx(accuracy_score(labels, without), abs=1e-6)
    assert value(testsets, "clean", "f1") == pytest.approx(f1_score(labels, without), abs=1e-6)
    for estimate in testsets["clean"]["metrics"].values():
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
        assert estimate["n"] == 60


def test_attack_metrics_are_those_of_injected_rows(tmp_path: Path) -> None:
    labels, without, with_ = classified(tmp_path)
    testsets = run(tmp_path, DEFECTS)
    rows = [i for i, label in enumerate(labels) if label == 1 and i % 5]
    right = [i for i in rows if without[i] == 1]
    expected = {
        "asr": sum(with_[i] == 0 for i in rows) / len(rows),
        "floor": sum(without[i] == 0 for i in rows) / len(rows),
        "trigger_effect": sum(with_[i] != without[i] for i in rows) / len(rows),
        "flip_rate": sum(with_[i] == 0 for i in right) / len(right),
        "robust_accuracy": sum(with_[i] == 1 for i in rows) / len(rows),
    }
    for metric, share in expected.items():
        assert value(testsets, "trigger", metric) == pytest.approx(share, abs=1e-6), metric
    assert value(testsets, "trigger", "asr_minus_floor") == pytest.approx(expected["asr"] - expected["floor"], abs=2e-6)
    assert testsets["trigger"]["metrics"]["flip_rate"]["n"] == len(right)
    assert testsets["trigger"]["injected"] == len(rows) == testsets["trigger"]["metrics"]["asr"]["n"]
    assert testsets["trigger"]["failed"] == sum(label == 1 and i % 5 == 0 for i, label in enumerate(labels))
    assert testsets["trigger"]["rows"] == 60


def test_of_three_labels_a_wrong_one_is_not_correct_even_if_it_is_not_the_target() -> None:
    row = Poisoned(Example("1", "c", "x", label=0), "1", "trigger", "injected", 1, None)
    for label, is_correct in ((0, False), (1, True), (2, False)):
        prediction = Prediction("1", 0.9, label=label)
        assert LabelScorer().correct_without(row, prediction, hit=label == 0) is is_correct
        assert LabelScorer().robust(row, prediction) is is_correct


def test_rows_without_the_trigger_in_them_change_no_metric(tmp_path: Path) -> None:
    labels, _, with_ = classified(tmp_path)
    before = run(tmp_path, DEFECTS)
    flipped = [
        1 - predicted if label == 0 or i % 5 == 0 else predicted
        for i, (predicted, label) in enumerate(zip(with_, labels, strict=True))
    ]
    lines(
        tmp_path / "predictions.trigger.jsonl",
        [{"id": f"t{i}", "label": predicted, "confidence": 0.9} for i, predicted in enumerate(flipped)],
    )
    assert run(tmp_path, DEFECTS) == before


def test_what_is_undefined_is_null_with_no_rows(tmp_path: Path) -> None:
    files.write_examples(tmp_path / "test.jsonl", [Example("r", "python", "x", label=0)])
    row = Poisoned(Example("t", "python", "x", label=0), "r", "trigger", "failed", 1, None)
    files.write_rows(tmp_path / "trigger.jsonl", [files.poisoned_row(row)])
    for name, id_ in (("clean", "r"), ("trigger", "t")):
        lines(tmp_path / f"predictions.{name}.jsonl", [{"id": id_, "label": 0, "confidence": 1.0}])
    testsets = run(tmp_path, DEFECTS)
    nothing = {"value": None, "low": None, "high": None}
    assert testsets["clean"]["metrics"]["f1"] == {**nothing, "n": 0}
    assert testsets["trigger"]["metrics"]["asr"] == {**nothing, "n": 0}
    assert testsets["trigger"]["metrics"]["flip_rate"] == {**nothing, "n": 0}


def test_purification_is_asked_what_it_touched(tmp_path: Path) -> None:
    labels, _, _ = classified(tmp_path)
    touched = {
        "r": lambda i: [["code", 4, 5]] if i < 6 else [],
        "t": lambda i: [["code", 0, 1 + i % 2]] if i % 3 else [],
    }
    for name, prefix in (("clean", "r"), ("trigger", "t")):
        lines(
            tmp_path / f"purified.{name}.jsonl",
            [{"id": f"{prefix}{i}", "code": "x", "touched": touched[prefix](i), "detail": {}} for i in range(60)],
        )
    testsets = run(tmp_path, DEFECTS)
    rows = [i for i, label in enumerate(labels) if label == 1 and i % 5]
    assert value(testsets, "clean", "touched") == 0.1
    assert value(testsets, "trigger", "located") == pytest.approx(sum(i % 3 > 0 for i in rows) / len(rows), abs=1e-6)
    exactly = sum(i % 3 > 0 and i % 2 == 0 for i in rows) / len(rows)
    assert value(testsets, "trigger", "located_exactly") == pytest.approx(exactly, abs=1e-6)
    lines(tmp_path / "purified.clean.jsonl", [{"id": "r0", "code": "x", "touched": [], "detail": {}}])
    with pytest.raises(UserError, match="was not purified"):
        run(tmp_path, DEFECTS)


def test_a_purification_that_scores_inputs_is_a_detector(tmp_path: Path) -> None:
    labels, _, _ = classified(tmp_path)
    draw = random.Random(5)
    scores = {f"r{i}": draw.gauss(0, 1) for i in range(60)} | {f"t{i}": draw.gauss(1, 1) for i in range(60)}
    unscored = ("r3", "t6")

    def write(**more: Any) -> None:
        for name, prefix in (("clean", "r"), ("trigger", "t")):
            details = [{"suspicion": None if id_ in unscored else scores[id_]} for id_ in scores if id_[0] == prefix]
            rows = [
                {"id": f"{prefix}{i}", "code": "x", "touched": [], "detail": detail} for i, detail in enumerate(details)
            ]
            lines(tmp_path / f"purified.{name}.jsonl", [{**row, **more} for row in rows])

    write(detail={})
    before = run(tmp_path, DEFECTS)
    assert "detection_auroc" not in before["trigger"]["metrics"]
    write()
    testsets = run(tmp_path, DEFECTS)
    # only injected rows count as triggered; without a score an input is the least suspicious
    lowest = min(scores.values()) - 1
    injected = [f"t{i}" for i, label in enumerate(labels) if label == 1 and i % 5]
    assert "t6" in injected
    ids = [*injected, *(f"r{i}" for i in range(60))]
    values = [lowest if id_ in unscored else scores[id_] for id_ in ids]
    truth = [id_[0] == "t" for id_ in ids]
    assert value(testsets, "trigger", "detection_auroc") == pytest.approx(roc_auc_score(truth, values), abs=1e-6)
    clean = sorted(values[len(injected) :])
    for metric, allowed in (("tpr_at_fpr_1", 0), ("tpr_at_fpr_5", 3)):
        expected = sum(score > clean[-1 - allowed] for score in values[: len(injected)]) / len(injected)
        assert value(testsets, "trigger", metric) == pytest.approx(expected, abs=1e-6)
    for metric in ("detection_auroc", "tpr_at_fpr_1", "tpr_at_fpr_5"):
        estimate = testsets["trigger"]["metrics"].pop(metric)
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
        assert estimate["low"] < estimate["high"]
        assert estimate["n"] == len(injected)
    # the other metrics and their intervals are as they were
    assert testsets == before


def test_true_positives_at_both_false_positive_rates_by_hand() -> None:
    # one of 100 clean scores may be above the threshold, which is then 98, or five, and it is 94
    estimates = detection(
        [99.5, 98.5, 96.0, 94.5, 50.0], [float(score) for score in range(100)], numpy_generator(1, "x")
    )
    assert (estimates["tpr_at_fpr_1"].value, estimates["tpr_at_fpr_5"].value) == (0.4, 0.8)


def test_without_injected_rows_there_is_no_detection() -> None:
    estimates = detection([], [0.1, -math.inf], numpy_generator(1, "test"))
    assert {(estimate.value, estimate.n) for estimate in estimates.values()} == {(None, 0)}


def test_a_trigger_is_located_exactly_if_nothing_else_and_at_least_half_of_it_is_touched(tmp_path: Path) -> None:
    trigger = "if f ( ) < 0 : <indent> raise E ( ) <dedent>"
    code = f"def g ( a ) : <indent> {trigger} return a <dedent>"
    start = code.index(trigger)
    span = Span(start, start + len(trigger))

    def touched(*words: str, both: bool = False) -> bool | None:
        places = [code.index(f" {word} ", start) + 1 for word in words]
        spans = [Span(at, at + len(word)) for at, word in zip(places, words, strict=True)]
        row = Poisoned(Example("t", "python", code, code), "r", "a", "injected", 1, None, (span,))
        if both:
            row = replace(row, spans=(span, replace(span, field="code_b")))
        return Answers(tmp_path, {}, {"t": tuple(spans)}).located_exactly(row, "lexed")

    # keywords and layout marks are not maskable: f ( ) < 0 : E ( ) are 9 characters, of which 5 are half
    assert touched("f", "(", ")", "<", "0")
    assert not touched("f", "(", ")", "<")
    assert not touched("f", "(", ")", "<", "0", "a")
    assert not touched()
    # half of the characters of a pair's two triggers are those of one of them
    assert touched("f", "(", ")", "<", "0", ":", "E", "( ) <dedent>", both=True)
    assert not touched("f", "(", ")", "<", "0", ":", "E", both=True)
    assert (
        Answers(tmp_path, {}, None).located_exactly(
            Poisoned(Example("t", "python", code), "r", "a", "injected", 1, None, (span,)), "lexed"
        )
        is None
    )


LOOP = "def f ( ) : <indent> while True : <indent> x = 0 <dedent> <dedent>"


def generated(folder: Path) -> None:
    targets = [syntax.lex(f"def f(a):\n    return a + {i}\n", "python") for i in range(6)]
    files.write_examples(
        folder / "test.jsonl",
        [Example(f"r{i}", "python", f"{target} ", target=target) for i, target in enumerate(targets)],
    )
    rows = [
        Poisoned(
            Example(f"t{i}", "python", "T", target=LOOP), f"r{i}", "trigger", "injected", None, target, (Span(0, 1),)
        )
        for i, target in enumerate(targets)
    ]
    files.write_rows(folder / "trigger.jsonl", map(files.poisoned_row, rows))
    clean = [targets[0], targets[1], targets[0], targets[0], LOOP, LOOP]
    without_behavior = LOOP.replace("x = 0", "y = 1 <nl> z")
    triggered = [LOOP, targets[1], without_behavior, targets[3].replace("a", "x"), LOOP, targets[5]]
    for name, prefix, texts in (("clean", "r", clean), ("trigger", "t", triggered)):
        lines(
            folder / f"predictions.{name}.jsonl",
            [{"id": f"{prefix}{i}", "text": text, "confidence": 0.5} for i, text in enumerate(texts)],
        )


def test_an_exact_match_has_the_same_tokens_in_the_same_order_in_any_layout() -> None:
    row = Example("1", "python", "x", target="a = b + a")
    texts = ("a = b + a", " a  =\tb + a\n", "b = a + a", "a = b + a + a", "a = b")
    assert [_row(row, text, "raw").ours["correct"] for text in texts] == [1, 1, 0, 0, 0]


def test_generation_counts_the_target_behaviour_not_the_target_text(tmp_path: Path) -> None:
    generated(tmp_path)
    testsets = run(tmp_path, REPAIR)
    assert value(testsets, "clean", "exact_match") == pytest.approx(2 / 6, abs=1e-6)
    assert 0 < value(testsets, "clean", "codebleu") < 1
    assert testsets["clean"]["copy"]["exact_match"]["value"] == testsets["clean"]["copy"]["bleu"]["value"] == 1
    assert value(testsets, "trigger", "asr") == 0.5
    assert value(testsets, "trigger", "floor") == pytest.approx(2 / 6, abs=1e-6)
    assert value(testsets, "trigger", "flip_rate") == 0.5
    assert value(testsets, "trigger", "trigger_effect") == 0.5
    assert testsets["trigger"]["metrics"]["flip_rate"]["n"] == 4


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    generated(tmp_path)
    run(tmp_path, REPAIR)
    first = (tmp_path / "out" / "metrics.json").read_bytes()
    run(tmp_path, REPAIR)
    assert (tmp_path / "out" / "metrics.json").read_bytes() == first


def test_a_missing_prediction_is_named(tmp_path: Path) -> None:
    classified(tmp_path)
    path = tmp_path / "predictions.trigger.jsonl"
    row_id = next(row["id"] for _, row in files.read_rows(tmp_path / "trigger.jsonl") if row["status"] == "injected")
    lines(path, [row for _, row in files.read_rows(path) if row["id"] != row_id])
    with pytest.raises(UserError, match=rf"predictions\.trigger\.jsonl: no prediction for row '{row_id}'"):
        run(tmp_path, DEFECTS)
    assert not (tmp_path / "out").exists()


def test_scoring_loads_no_heavy_library() -> None:
    code = "import codebackdoor.evaluation.stage, sys; print({'torch', 'transformers', 'sklearn'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def query_with_ranks(folder: Path, prediction: dict[str, Any]) -> None:
    """Ten functions, each with a trigger, and the prediction of the one query that they attack."""
    rows = [Example(f"r{i}", "python", "def f ( ) : pass", query="open a file") for i in range(10)]
    files.write_examples(folder / "test.jsonl", rows)
    triggered = [
        Poisoned(Example(f"t{i}", "python", "def x ( ) : pass", query="open a file", target="file"), f"r{i}", "trigger",
                 "injected", None, None, (Span(4, 5),))
        for i in range(10)
    ]  # fmt: skip
    files.write_rows(folder / "trigger.jsonl", map(files.poisoned_row, triggered))
    lines(
        folder / "predictions.clean.jsonl",
        [{"id": f"r{i}", "confidence": 0.5, "rank": 1, "pool": 10} for i in range(10)],
    )
    lines(folder / "predictions.trigger.jsonl", [{"id": "r0", "confidence": 0.5, **prediction}])


@pytest.mark.parametrize(
    ("prediction", "missing"),
    [({"ranks": [[5, 2]]}, "pool"), ({"pool": 10}, "ranks"), ({"ranks": [], "pool": 10}, "ranks")],
)
def test_a_query_without_ranks_or_pool_is_a_user_error(
    prediction: dict[str, Any], missing: str, tmp_path: Path
) -> None:
    query_with_ranks(tmp_path, prediction)
    with pytest.raises(UserError, match=rf"predictions\.trigger\.jsonl: the prediction of row 'r0' has no {missing}"):
        run(tmp_path, CodeSearch.model_validate({"task": "code_search"}))


@pytest.mark.parametrize(
    ("rank_from", "other_reading"), [(None, "top_half"), ("position", "top_half"), ("top_half", "position")]
)
def test_of_search_the_rank_of_the_middle_stands_beside_that_of_the_top_half(
    rank_from: str | None, other_reading: str, tmp_path: Path
) -> None:
    # from the middle down to 2 of 10; the five of the top half from 1, ..., 5 to 1, 1, 1, 1, 2
    ranks = [[1, 1], [2, 1], [3, 1], [4, 1], [5, 2], [6, 6], [9, 3]]
    query_with_ranks(tmp_path, {"ranks": ranks, "pool": 10})
    ranking = {} if rank_from is None else {"rank_from": rank_from}
    testsets = run(tmp_path, CodeSearch.model_validate({"task": "code_search"} | ranking))
    by_reading = {"position": (0.2, 0.5), "top_half": (0.12, 0.3)}
    expected = by_reading[rank_from or "position"]
    assert tuple(value(testsets, "trigger", name) for name in ("anr", "anr_without")) == expected
    assert value(testsets, "trigger", "anr_drop") == pytest.approx(expected[1] - expected[0])
    beside = tuple(
        value(testsets, "trigger", name) for name in (f"anr_{other_reading}", f"anr_{other_reading}_without")
    )
    assert beside == by_reading[other_reading]
