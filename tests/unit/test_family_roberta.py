"""RoBERTa: the shortened last layer gives what the model itself gives: logits, gradients, with and without padding."""

from __future__ import annotations

import pytest
import torch
from tiny_models import classifier

from codebackdoor.victims import forward
from codebackdoor.victims.batching import pad
from codebackdoor.victims.forward import scores, variant_vectors

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
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_scores_of_variants_are_the_models_own(layers: int) -> None:
    torch.set_num_threads(1)
    victim = classifier()
    model = victim.model
    model.roberta.encoder.layer = torch.nn.ModuleList(
        [*model.roberta.encoder.layer, *classifier(seed=1).model.roberta.encoder.layer][:layers]
    )
    with torch.inference_mode():
        for parameter in model.parameters():
            # zero biases would hide one that is forgotten
            parameter.add_(torch.linspace(-0.1, 0.1, parameter.numel()).view_as(parameter))
        for rows in ([*ROWS, [0, 7, 9, 9, 10, 2]], ROWS[:1]):
            ids, mask = pad(rows, victim.pad_id)
            expected = model(input_ids=ids, attention_mask=mask).logits
            logits = forward.logits(victim, variant_vectors(victim, ids, mask))
            torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
