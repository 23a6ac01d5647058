"""The shortened last layer gives what the model itself gives: logits, gradients, with and without padding."""

from __future__ import annotations

import torch
from tiny_models import classifier

from codebackdoor.victims.batching import pad
from codebackdoor.victims.reading import scores

ROWS = [[0, 7, 8, 9, 10, 2], [0, 30, 31, 2], [0, 12, 2]]


def test_logits_and_gradients_equal_the_models_own() -> None:
    torch.set_num_threads(1)
    victim = classifier()
    for rows in (ROWS, ROWS[:1]):
        ids, mask = pad(rows, victim.pad_id)
        gradients = []
        for logits in (scores(victim, (ids, mask)), victim.model(input_ids=ids, attention_mask=mask).logits):
            victim.model.zero_grad()
            logits[:, 0].sum().backward()
            gradients.append(
                {name: p.grad.clone() for name, p in victim.model.named_parameters() if p.grad is not None}
            )
            gradients[-1]["logits"] = logits.detach()
        assert gradients[0].keys() == gradients[1].keys()
        for name, own in gradients[0].items():
            torch.testing.assert_close(own, gradients[1][name], atol=1e-6, rtol=1e-5, msg=name)
