"""The discriminator's pretraining: what is replaced, what is asked, and where it starts."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.roberta.modeling_roberta import RobertaForMaskedLM

from codebackdoor.basemodels.architectures import build
from codebackdoor.basemodels.noise import batches, collate
from codebackdoor.basemodels.pretraining import pretrain
from codebackdoor.basemodels.replaced_tokens import Replacer
from codebackdoor.basemodels.tokenizer import FIRST_ORDINARY, MASK, PAD
from codebackdoor.config.pretraining import Pretraining
from codebackdoor.errors import UserError
from codebackdoor.types import IGNORED

SIZES: dict[str, Any] = {
    "vocabulary": 320,
    "hidden": 32,
    "heads": 2,
    "layers": 1,
    "max_length": 16,
    "precision": "float32",
    "batch_tokens": 256,
    "steps": 40,
    "matrix_lr": 0.005,
}
RECIPE = Pretraining(family="discriminator", noise=0.4, **SIZES)
MARKS = np.zeros(320, dtype=bool)


@cache
def rows() -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Sequences that count upwards, so that a stranger among them can be told."""
    draw = np.random.default_rng(0)
    return [np.arange(start, start + 12) for start in draw.integers(FIRST_ORDINARY, 300, 200).tolist()]


def encoder(**changed: Any) -> RobertaForMaskedLM:
    return build(Pretraining(family="encoder", **(SIZES | changed)))  # type: ignore[return-value]


def test_labels_say_which_sub_tokens_another_one_stands_for() -> None:
    masked = collate(rows()[:20], RECIPE, np.random.default_rng(1), MARKS)
    is_masked = masked.labels != IGNORED
    assert bool((masked.ids[is_masked] == MASK).all())
    filled = Replacer(encoder())(masked, np.random.default_rng(2))
    original = torch.where(is_masked, masked.labels, masked.ids)
    assert torch.equal(filled.ids[~is_masked], masked.ids[~is_masked])
    ordinary = original >= FIRST_ORDINARY
    assert torch.equal(filled.labels[ordinary] == 1, (filled.ids != original)[ordinary])
    assert int((filled.ids == MASK).sum()) < 0.05 * int(is_masked.sum())
    assert bool((filled.labels[~ordinary] == IGNORED).all())
    assert int((filled.labels == 1).sum()) > 0.9 * int(is_masked.sum())


def test_what_is_drawn_follows_the_generators_probabilities() -> None:
    generator = encoder()
    with torch.no_grad():
        generator.lm_head.bias.fill_(-100)
        generator.lm_head.bias[7], generator.lm_head.bias[9] = 0.0, 1.0
        generator.lm_head.decoder.weight.zero_()
    masked = collate(rows(), RECIPE, np.random.default_rng(1), MARKS)
    drawn = Replacer(generator)(masked, np.random.default_rng(2)).ids[masked.labels != IGNORED]
    assert set(drawn.tolist()) == {7, 9}
    assert float((drawn == 9).float().mean()) == pytest.approx(float(torch.tensor(1.0).sigmoid()), abs=0.05)


def test_a_discriminator_starts_where_its_generator_ended() -> None:
    generator, model = encoder(), build(RECIPE)
    Replacer(generator).initialize(model)
    ids = torch.tensor([[0, 8, 9, 10, 2, PAD]])
    with torch.no_grad():
        copied, original = (
            part(input_ids=ids, attention_mask=ids != PAD).last_hidden_state
            for part in (model.get_submodule("electra"), generator.roberta)
        )
    assert torch.allclose(copied[:, :5], original[:, :5], atol=1e-5)
    with pytest.raises(UserError, match=r"write the sizes of its generator"):
        Replacer(encoder(hidden=16)).initialize(build(RECIPE))


def test_a_discriminator_learns_to_tell() -> None:
    torch.set_num_threads(1)
    recipe = RECIPE.model_copy(update={"steps": 100, "lr": 0.01})
    _, curve = pretrain(rows(), rows()[:50], recipe, MARKS, log_every=50, replacer=Replacer(encoder()))
    assert curve[1]["loss"] < curve[0]["loss"]
    assert curve[-1]["auc"] > 0.6
    assert set(curve[-1]) == {"step", "held_out", "auc", "recall", "false_alarms"}


def test_the_same_recipe_gives_the_same_discriminator() -> None:
    torch.set_num_threads(1)
    recipe = RECIPE.model_copy(update={"steps": 3})
    first, second = (
        pretrain(rows(), rows()[:50], recipe, MARKS, replacer=Replacer(encoder()))[0].state_dict() for _ in range(2)
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_decoder_learns_the_next_token_with_one_head_of_keys() -> None:
    torch.set_num_threads(1)
    recipe = Pretraining(family="decoder", lr=0.005, **SIZES)
    batch = next(batches(rows(), recipe, np.random.default_rng(1), MARKS))
    assert torch.equal(batch.labels[:, :-1][batch.labels[:, :-1] != IGNORED], batch.ids[:, 1:][batch.ids[:, 1:] != PAD])
    model, curve = pretrain(rows(), rows()[:50], recipe, MARKS, log_every=20)
    assert (model.config.model_type, model.config.multi_query) == ("gpt_bigcode", True)
    assert curve[1]["loss"] < curve[0]["loss"]
