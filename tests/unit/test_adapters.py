"""Low-rank adapters: what they train, that merging changes no output, and which models they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from small_trainings import BERT, CROSS_ENTROPY, T5, rows, state
from tiny_models import classifier, encoder_with_decoder, generator, understanding
from torch import Tensor

from codebackdoor.config.models import CodeBert
from codebackdoor.config.recipes import AdapterSettings
from codebackdoor.errors import UserError
from codebackdoor.victims import adapters
from codebackdoor.victims.training import fit
from codebackdoor.victims.training_rows import batch_logits, encode
from codebackdoor.victims.validation import Validation
from codebackdoor.victims.victim import Victim

MAKERS = {
    "encoder": classifier,
    "encoder-decoder": generator,
    "encoder with a decoder": encoder_with_decoder,
    "decoder": lambda: understanding("gpt", "classification"),
}


def logits(victim: Victim) -> Tensor:
    with torch.no_grad():
        return batch_logits(victim, encode(victim, rows(6)))[0]


def moved(victim: Victim, settings: AdapterSettings) -> None:
    """Attach adapters and give them values as after a training."""
    adapters.attach(victim, settings, 1)
    torch.manual_seed(0)
    for parameter in victim.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_merging_changes_no_logit(make) -> None:
    victim = make()
    before = logits(victim)
    original = {name: value.clone() for name, value in state(victim).items()}
    names = set(original)
    adapters.attach(victim, AdapterSettings(rank=3), 1)
    # fresh adapters change no bit of a weight; on some processors, the sum is read by another kernel, which rounds
    assert all(torch.equal(value, original[name]) for name, value in adapters.merged(victim.model).items())
    torch.testing.assert_close(logits(victim), before, atol=1e-6, rtol=1e-6)
    adapters.merge(victim.model)
    moved(victim, AdapterSettings(rank=3))
    adapted = logits(victim)
    assert not torch.allclose(adapted, before)
    kept = {name: value.clone() for name, value in adapters.merged(victim.model).items()}
    adapters.merge(victim.model)
    torch.testing.assert_close(logits(victim), adapted, atol=1e-6, rtol=1e-6)
    assert set(state(victim)) == names
    assert all(parameter.requires_grad for parameter in victim.model.parameters())
    assert type(victim.model).__module__ == type(make().model).__module__
    for name, value in kept.items():
        assert torch.equal(state(victim)[name], value), name
    for name in names - kept.keys():
        assert torch.equal(state(victim)[name], state(make())[name]), name


def test_a_merged_weight_is_the_old_one_plus_the_scaled_product() -> None:
    victim = classifier()
    name = "roberta.encoder.layer.1.attention.self.query"
    old = state(victim)[f"{name}.weight"].double()
    moved(victim, AdapterSettings(rank=2, alpha=6.0, modules=("query",)))
    low_rank = victim.model.get_submodule(f"{name}.parametrizations.weight")[0]
    expected = old + 3 * low_rank.b.detach().double() @ low_rank.a.detach().double()
    adapters.merge(victim.model)
    change = state(victim)[f"{name}.weight"].double() - old
    torch.testing.assert_close(old + change, expected, atol=1e-6, rtol=0)
    assert torch.linalg.matrix_rank(change, rtol=1e-4).item() == 2


@pytest.mark.parametrize(("make", "recipe"), [(classifier, BERT), (encoder_with_decoder, BERT), (generator, T5)])
def test_training_changes_the_adapted_layers_and_a_new_head_alone(make, recipe, tmp_path: Path) -> None:
    victim, before = make(), state(make())
    settings = AdapterSettings(rank=2, modules=("query", "value", "q", "v"))
    recipe = recipe.model_copy(update={"adapters": settings, "epochs": 1, "batch_tokens": 64})
    fit(victim, rows(), CROSS_ENTROPY, recipe, Validation(rows(6)), tmp_path / "progress", 1)
    changed = {name for name, value in state(victim).items() if not torch.equal(value, before[name])}
    cls = victim.family.model_class(victim.head)
    adapted = {name for name in before if name.split(".")[-2] in settings.modules and name.endswith(".weight")}
    head = {name for name in before if cls.new and name.startswith(cls.new)}
    assert adapted
    assert changed == adapted | head
    for name in adapted:
        assert torch.linalg.matrix_rank((state(victim)[name] - before[name]).double(), rtol=1e-3).item() <= 2


def test_adapters_depend_on_the_seed_alone() -> None:
    drawn = []
    for seed in (1, 1, 2):
        victim = classifier()
        adapters.attach(victim, AdapterSettings(), seed)
        drawn.append({name: value for name, value in state(victim).items() if name.endswith(".0.a")})
    assert all(torch.equal(value, drawn[1][name]) for name, value in drawn[0].items())
    assert not any(torch.equal(value, drawn[2][name]) for name, value in drawn[0].items())


def test_a_model_without_the_layers_is_refused() -> None:
    with pytest.raises(UserError, match=r"SequenceClassification has no layer named nothing, q; write some of"):
        adapters.attach(classifier(), AdapterSettings(modules=("nothing", "q")), 1)


def test_a_layer_that_shares_its_weight_is_refused() -> None:
    with pytest.raises(UserError, match=r"lm_head shares its weight with .*; leave lm_head out"):
        adapters.attach(generator(), AdapterSettings(modules=("q", "lm_head")), 1)


@pytest.mark.parametrize("rank", [0, -4])
def test_a_rank_is_positive(rank: int) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        CodeBert(architecture="codebert", adapters={"rank": rank})


def test_settings_that_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="badam trains blocks of all weights; leave out `adapters`"):
        CodeBert(architecture="codebert", optimizer="badam", adapters={"rank": 4})
    with pytest.raises(ValidationError, match="write `precision: bfloat16`"):
        CodeBert(architecture="codebert", weights="bfloat16", precision="float32")
    with pytest.raises(ValidationError, match="without a dot"):
        AdapterSettings(modules=("attention.query",))


def test_settings_with_defaults_are_not_part_of_finished_jobs() -> None:
    new = {"weights", "optimizer", "switch_every", "block_order", "adapters"}
    assert not new & CodeBert(architecture="codebert").model_dump().keys()
    changed = CodeBert(architecture="codebert", weights="bfloat16", on={"generation": {"adapters": {"rank": 2}}})
    dumped = changed.model_dump(mode="json")
    assert dumped["weights"] == "bfloat16"
    assert dumped["on"]["generation"]["adapters"]["rank"] == 2
    for settings in (changed, CodeBert.model_validate(dumped)):
        assert settings.for_head("generation").adapters == AdapterSettings(rank=2)
