"""The shortened decoder gives what transformers' own gives: states and gradients, with and without padding."""

from __future__ import annotations

import torch
from tiny_models import understanding

from codebackdoor.victims import reading
from codebackdoor.victims.batching import pad

ROWS = [[0, 7, 8, 9, 10, 2], [0, 30, 31, 2], [0, 12, 2]]


def test_states_and_gradients_equal_the_models_own() -> None:
    torch.set_num_threads(1)
    victim = understanding("t5", "pair")
    for rows in (ROWS, ROWS[:1]):
        ids, mask = pad(rows, victim.pad_id)
        ends = mask.sum(1) - 1
        found = []
        for own in (True, False):
            victim.model.zero_grad()
            embedded = reading.embed(victim, ids)
            if own:
                states = reading.vectors(victim, embedded, mask)
            else:
                states = reading._decoded(victim.model.base_model, embedded, mask)[torch.arange(len(rows)), ends]
            states[:, :5].sum().backward()
            found.append({name: p.grad.clone() for name, p in victim.model.named_parameters() if p.grad is not None})
            found[-1]["states"] = states.detach()
        assert found[0].keys() == found[1].keys()
        for name, value in found[0].items():
            torch.testing.assert_close(value, found[1][name], atol=1e-5, rtol=1e-4, msg=name)
