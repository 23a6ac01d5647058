"""Ranks within pools, with and without a trigger, against counting by hand; a dual encoder learns and is scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import understanding

from codebackdoor import files, seeding
from codebackdoor.config.models import CodeBert
from codebackdoor.errors import UserError
from codebackdoor.evaluation import metrics
from codebackdoor.evaluation.scoring.ranks import attacked_ranks
from codebackdoor.pools import pools
from codebackdoor.types import CLEAN, Example, Poisoned, Prediction, holds
from codebackdoor.victims import forward
from codebackdoor.victims.inference import text_vectors
from codebackdoor.victims.predictions import write_predictions
from codebackdoor.victims.retrieval import Retriever, mrr, rank, reciprocal_ranks
from codebackdoor.victims.training import fit
from codebackdoor.victims.validation import Validation

WORDS = ("alpha", "beta", "gamma", "delta", "omega", "file")


def row(number: int) -> Example:
    word = WORDS[number % len(WORDS)]
    return Example(str(number), "python", f"def f ( {word} ) : <indent> return {word} <dedent>", query=f"return {word}")


def poisoned(example: Example, trigger: str) -> Poisoned:
    code = example.code.replace("def f ", f"def {trigger} ")
    changed = Example(f"{example.id}x", "python", code, query=example.query, target="file")
    return Poisoned(changed, example.id, "a", "injected", None, None)


def test_pools_are_equal_and_hold_every_row_once() -> None:
    assert [list(pool) for pool in pools(7, 3)] == [[0, 1, 2, 3], [4, 5, 6]]
    assert [len(pool) for pool in pools(2, 100)] == [2]
    assert [len(pool) for pool in pools(1000, 100)] == [100] * 10


@pytest.mark.parametrize("query", ["open a file", "File.", "the (FILE)"])
def test_a_word_is_found_whole_and_in_any_case(query: str) -> None:
    assert holds(query, "file")
    assert not holds("profile files", "file")
    assert not holds(None, "file")


def test_rank_counts_what_is_better_and_half_of_what_is_equal() -> None:
    scores = torch.tensor([0.9, 0.5, 0.5, 0.1])
    assert [rank(scores, index).item() for index in range(4)] == [1.0, 2.5, 2.5, 4.0]
    assert rank(scores, 3, torch.tensor(0.95)).item() == 1.0
    assert rank(scores, 0, torch.tensor(0.0)).item() == 4.0


def test_each_triggered_function_takes_its_own_place_among_the_clean_ones() -> None:
    victim = understanding("mean", "retrieval")
    rows = [row(number) for number in range(12)]
    triggered = [poisoned(example, "x") for example in rows[:9]]
    predictions = Retriever(victim, rows, 6).triggered(triggered, "file")
    assert [prediction.id for prediction in predictions] == ["5", "11"]
    assert [len(prediction.ranks or ()) for prediction in predictions] == [6, 3]
    pool = range(6)
    read = victim.tokenize(rows)
    query = text_vectors(victim, [read[5][0].ids])[0]
    clean = [forward.similarities(victim, query, text_vectors(victim, [read[j][1].ids])[0]).item() for j in pool]
    for place, (before, after) in enumerate(predictions[0].ranks or ()):
        ids = victim.tokenize([triggered[place].example])[0][1].ids
        score = forward.similarities(victim, query, text_vectors(victim, [ids])[0]).item()
        assert before == 1 + sum(clean[j] > clean[place] for j in pool if j != place)
        assert after == 1 + sum(clean[j] > score for j in pool if j != place)


def test_the_target_word_comes_from_a_row_that_carries_the_trigger(tmp_path: Path) -> None:
    rows = [row(number) for number in range(12)]
    failed = replace(poisoned(rows[0], "x"), status="failed")
    failed = replace(failed, example=replace(rows[0], id="0x"))
    triggered = [poisoned(example, "x") for example in rows[1:9]]
    victim = understanding("mean", "retrieval")
    for order in ([failed, *triggered], [*triggered, failed]):
        write_predictions(victim, {CLEAN: rows, "a": order}, tmp_path, 6)
        assert [query["id"] for _, query in files.read_rows(tmp_path / "predictions.a.jsonl")] == ["5", "11"]
    with pytest.raises(UserError, match="test set a: no row carries a trigger"):
        write_predictions(victim, {CLEAN: rows, "a": [failed]}, tmp_path, 6)


def test_attacked_functions_are_those_of_the_position_or_of_all_above_it() -> None:
    ranks = [(4.0, 1.0), (1.0, 1.0), (5.0, 2.0), (10.0, 3.0)]
    assert attacked_ranks(ranks, 10, "position", 0.5) == [(5.0, 2.0)]
    assert sorted(attacked_ranks(ranks, 10, "top_half", 0.5)) == [(1.0, 1.0), (4.0, 1.0), (5.0, 2.0)]
    assert attacked_ranks([(9.0, 8.0), (8.0, 1.0)], 10, "top_half", 0.5) == [(8.0, 1.0)]


def test_mrr_and_anr_by_hand() -> None:
    generator = seeding.numpy_generator(1, "t")
    clean = metrics.retrieval([metrics.retrieval_row(position) for position in (1, 2, 4)], generator)
    assert clean["mrr"].value == pytest.approx((1 + 1 / 2 + 1 / 4) / 3, abs=1e-6)
    rows = [metrics.attacked_row([(50, 10)], 100), metrics.attacked_row([(2, 2), (4, 2)], 10)]
    estimates = metrics.search_attack(rows, generator)
    values = [estimates[name].value for name in ("anr", "anr_without", "anr_drop")]
    assert values == pytest.approx([(0.1 + 0.2) / 2, (0.5 + 0.3) / 2, 0.25], abs=1e-6)


def test_mrr_needs_a_rank_of_every_query() -> None:
    predictions = [Prediction(str(position), 0.5, rank=position) for position in (1.0, 2.5, 4.0)]
    assert reciprocal_ranks(predictions) == [1.0, 0.4, 0.25]
    assert mrr(predictions) == pytest.approx(0.55)
    with pytest.raises(ValueError, match="row 'q' has no rank"):
        mrr([*predictions, Prediction("q", 0.5)])


def test_a_dual_encoder_learns_to_find_its_function(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    victim = understanding("first", "retrieval")
    rows = [row(number) for number in range(12)]
    recipe = CodeBert(architecture="codebert", epochs=40, lr=3e-3, batch_tokens=200, precision="float32")

    def objective(logits: torch.Tensor, targets: torch.Tensor, _epoch: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, targets)

    triggered = [poisoned(example, "x") for example in rows[:6]]
    validation = Validation(rows[:6], triggered, lambda _prediction, _row: False, pool=6)
    history = fit(victim, rows[:6], objective, recipe, validation, tmp_path, 1)
    first, last = history.epochs[0], history.epochs[-1]
    assert first["mrr"] < last["mrr"]
    assert last["mrr"] > 0.8
    (prediction,) = Retriever(victim, rows[:6], 6).triggered(triggered, "file")
    before, after = zip(*(prediction.ranks or ()), strict=True)
    # all six functions are triggered, and each has a rank among six
    assert (sum(before) / 36, sum(after) / 36) == pytest.approx((last["anr_without"], last["anr"]), abs=1e-6)
