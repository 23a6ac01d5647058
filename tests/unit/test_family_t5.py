"""T5: the shortened forward pass gives what transformers' own gives: states and gradients, with and without padding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import understanding
from torch import Tensor

from codebackdoor.config.model_settings import Pooling
from codebackdoor.victims import forward
from codebackdoor.victims.batching import pad
from codebackdoor.victims.victim import Victim

ROWS = [[0, 7, 8, 9, 10, 2], [0, 30, 31, 2], [0, 12, 2]]


def _by_transformers(victim: Victim, ids: Tensor, mask: Tensor) -> Tensor:
    """The decoder's states at every place, [B, T, H], from ids."""
    body = victim.model.base_model
    start = torch.full_like(ids[:, :1], body.config.decoder_start_token_id)
    output = body(
        input_ids=ids,
        attention_mask=mask,
        decoder_input_ids=torch.cat([start, ids[:, :-1]], 1),
        decoder_attention_mask=mask,
    )
    states: Tensor = output.last_hidden_state
    return states


@pytest.mark.parametrize("pooling", ["first", "last", "mean", "max"])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], [[5], [6]]])
def test_states_and_gradients_equal_the_models_own(pooling: Pooling, rows: list[list[int]]) -> None:
    torch.set_num_threads(1)
    victim = replace(understanding("t5", "pair"), pooling=pooling)
    ids, mask = pad(rows, victim.pad_id)
    results = []
    for uses_forward in (True, False):
        victim.model.zero_grad()
        if uses_forward:
            vectors = forward.vectors(victim, forward.embed(victim, ids), mask)
        else:
            states = _by_transformers(victim, ids, mask)
            read = {
                "first": states[:, 0],
                "last": states[torch.arange(len(rows)), mask.sum(1) - 1],
                "mean": torch.stack([state[: len(row)].mean(0) for state, row in zip(states, rows, strict=True)]),
                "max": torch.stack([state[: len(row)].amax(0) for state, row in zip(states, rows, strict=True)]),
            }
            vectors = read[pooling]
        vectors[:, :5].sum().backward()
        results.append({name: p.grad.clone() for name, p in victim.model.named_parameters() if p.grad is not None})
        results[-1]["vectors"] = vectors.detach()
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("pooling", ["first", "last", "mean", "max"])
def test_with_dropout_the_models_own_layers_read_the_same_places(pooling: Pooling) -> None:
    victim = replace(understanding("t5", "pair"), pooling=pooling)
    ids, mask = pad(ROWS, victim.pad_id)
    expected = forward.vectors(victim, forward.embed(victim, ids), mask)
    victim.model.train()
    for module in victim.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    # by the rate the way is chosen; what would be dropped is not
    for rate in (0.0, 0.1):
        victim.model.base_model.config.dropout_rate = rate
        vectors = forward.vectors(victim, forward.embed(victim, ids), mask)
        torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-4)
