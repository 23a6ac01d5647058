"""Every class and head reads as transformers' own models do, with and without padding; folders keep what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import HEADS, understanding

from codebackdoor.config.model_settings import Pooling
from codebackdoor.errors import UserError
from codebackdoor.types import Example
from codebackdoor.victims import forward
from codebackdoor.victims.batching import pad
from codebackdoor.victims.inference import predict_logits, text_vectors
from codebackdoor.victims.victim import Victim, load_victim, save_victim

ROWS = [[0, 7, 8, 9, 10, 2], [0, 30, 31, 2], [0, 12, 2]]
CODE = "def f ( a ) : <indent> return a + 1 <dedent>"


def _unpadded(victim: Victim, ids: list[int]) -> Any:
    """The model's own last hidden states [T, H] of one text."""
    batch = torch.tensor([ids])
    body = victim.model.base_model
    if body.config.model_type == "t5":
        start = torch.tensor([[body.config.decoder_start_token_id]])
        return body(input_ids=batch, decoder_input_ids=torch.cat([start, batch[:, :-1]], 1)).last_hidden_state[0]
    return body(input_ids=batch).last_hidden_state[0]


@pytest.mark.parametrize("family", ["first", "mean", "max", "t5", "gpt"])
@torch.no_grad()
def test_vectors_are_the_pooled_states_of_each_text_alone(family: str) -> None:
    victim = understanding(family, "pair")
    pools: dict[str, Any] = {
        "first": lambda states: states[0],
        "mean": lambda states: states.mean(0),
        "max": lambda states: states.amax(0),
    }
    pool = pools.get(family, lambda states: states[-1])
    expected = torch.stack([pool(_unpadded(victim, ids)) for ids in ROWS])
    ids, mask = pad(ROWS, victim.pad_id)
    torch.testing.assert_close(
        forward.vectors(victim, forward.embed(victim, ids), mask), expected, atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(text_vectors(victim, ROWS), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["t5", "gpt"])
@pytest.mark.parametrize("pooling", ["first", "mean", "max"])
@torch.no_grad()
def test_every_class_may_read_another_state_or_all_of_them(family: str, pooling: Pooling) -> None:
    victim = replace(understanding(family, "pair"), pooling=pooling)
    pool = {
        "first": lambda states: states[0],
        "mean": lambda states: states.mean(0),
        "max": lambda states: states.amax(0),
    }
    expected = torch.stack([pool[pooling](_unpadded(victim, ids)) for ids in ROWS])
    torch.testing.assert_close(text_vectors(victim, ROWS), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["first", "t5", "gpt"])
@torch.no_grad()
def test_classifiers_are_transformers_own(family: str) -> None:
    victim = understanding(family, "classification")
    for ids in ROWS:
        expected = victim.model(input_ids=torch.tensor([ids])).logits
        torch.testing.assert_close(predict_logits(victim, [(ids,)]), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_pair_is_judged_by_both_vectors_and_their_order() -> None:
    victim = understanding("first", "pair")
    first, second = text_vectors(victim, ROWS[:2])
    head = victim.model.classifier
    read = torch.cat([first, second, (first - second).abs(), first * second])
    expected = head.out_proj(torch.tanh(head.dense(read)))
    logits = predict_logits(victim, [(ROWS[0], ROWS[1]), (ROWS[1], ROWS[0])])
    torch.testing.assert_close(logits[0], expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(logits[0], logits[1])


@torch.no_grad()
def test_similarity_is_the_cosine_or_the_inner_product_of_the_projections() -> None:
    victim = understanding("first", "retrieval")
    query, code = (victim.model(input_ids=torch.tensor([ids])).pooler_output[0] for ids in ROWS[:2])
    cosine = torch.nn.functional.cosine_similarity(query, code, dim=0)
    torch.testing.assert_close(predict_logits(victim, [(ROWS[0], ROWS[1])])[0], cosine)
    dot = replace(victim, similarity="dot")
    torch.testing.assert_close(predict_logits(dot, [(ROWS[0], ROWS[1])])[0], query @ code)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", ["first", "mean", "t5", "gpt"])
def test_a_folder_gives_the_victim_back(tmp_path: Path, family: str, head: Any) -> None:
    victim = understanding(family, head)
    save_victim(victim, tmp_path / "v", {"task": "t", "backdoored": False})
    again = load_victim(tmp_path / "v")
    row = tuple(ROWS[: len(victim.fields)])
    torch.testing.assert_close(predict_logits(victim, [row]), predict_logits(again, [row]), atol=1e-6, rtol=1e-5)
    assert (again.pooling, again.similarity, again.head) == (victim.pooling, victim.similarity, head)


def test_a_prefix_stands_behind_the_beginning_and_takes_room() -> None:
    victim = replace(understanding("mean", "classification"), prefix=("<mask>", "</s>"), max_length=10)
    (bare,), (encoded,) = replace(victim, prefix=()).encode([CODE]), victim.encode([CODE])
    marks = victim.tokenizer.convert_tokens_to_ids(["<mask>", "</s>"])
    assert encoded.ids == [bare.ids[0], *marks, *bare.ids[1:7], bare.ids[-1]]
    assert encoded.offsets[1:3] == [(0, 0), (0, 0)]
    assert len(encoded.ids) == len(bare.ids) == 10


def test_a_row_without_what_the_victim_reads_is_named() -> None:
    with pytest.raises(UserError, match="'7': a pair victim reads its 'code_b'"):
        understanding("first", "pair").tokenize([Example("7", "python", CODE)])
