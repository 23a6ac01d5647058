"""Tiny helper models and a planted victim for the tests of purifications; all made in the test."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel
from transformers.models.roberta.configuration_roberta import RobertaConfig
from transformers.models.roberta.modeling_roberta import RobertaForMaskedLM

from codebackdoor.basemodels.tokenizer import train_bpe, wrap
from codebackdoor.defenses.views import DefenderView
from codebackdoor.syntax import lex
from codebackdoor.types import Example
from codebackdoor.victims.victim import Victim

_NAMES = ("total", "value", "items", "index", "result", "node", "left", "right", "count", "name")
LENGTH = 128


def source(number: int, trigger: str = "") -> str:
    """A small Python function; ``number`` decides names and operators, ``trigger`` is a first statement."""
    a, b, c, d = (_NAMES[(number * step + step) % len(_NAMES)] for step in (1, 3, 7, 9))
    first = f"    {trigger}\n" if trigger else ""
    return (
        f"def {a}_{number}({b}, {c}):\n{first}    {d}_x = {b} + {number % 7}\n    if {d}_x > {c}:\n"
        f"        return {c} * {d}_x\n    return {b}.{d}({c}, {number})\n"
    )


def example(number: int, trigger: str = "") -> Example:
    return Example(id=str(number), language="python", code=lex(source(number, trigger), "python"))


@cache
def bpe() -> Any:
    return train_bpe([example(number).code for number in range(60)] + ["assert ( testo_init ) ret_Val_"], 420)


def _seeded(model_class: Any, config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model_class(config).eval()


@cache
def infiller() -> tuple[Any, Any]:
    config = RobertaConfig(
        vocab_size=bpe().get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LENGTH + 2,
        type_vocab_size=1,
        initializer_range=0.3,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    return _seeded(RobertaForMaskedLM, config), wrap(bpe(), "<s> $A </s>", LENGTH)


@cache
def language_model() -> tuple[Any, Any]:
    config = GPT2Config(
        vocab_size=bpe().get_vocab_size(),
        n_positions=LENGTH,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=2,
    )
    return _seeded(GPT2LMHeadModel, config), wrap(bpe(), "<s> $A", LENGTH)


@cache
def discriminator() -> tuple[Any, Any]:
    from transformers.models.electra.configuration_electra import ElectraConfig
    from transformers.models.electra.modeling_electra import ElectraForPreTraining

    config = ElectraConfig(
        vocab_size=bpe().get_vocab_size(),
        embedding_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        type_vocab_size=1,
        initializer_range=0.3,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    return _seeded(ElectraForPreTraining, config), wrap(bpe(), "<s> $A </s>", LENGTH)


@cache
def trained_language_model() -> tuple[Any, Any]:
    """The causal model after a few steps on functions as in ``source``, so that a foreign word surprises it."""
    model, tokenizer = copy.deepcopy(language_model()[0]).train(), language_model()[1]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = tokenizer([example(number).code for number in range(64)], padding=True, return_tensors="pt")
    labels = rows["input_ids"].masked_fill(rows["attention_mask"] == 0, -100)
    with torch.random.fork_rng(devices=[]):
        # dropout, whatever tests ran before
        torch.manual_seed(1)
        for _ in range(80):
            optimizer.zero_grad()
            model(**rows, labels=labels).loss.backward()
            optimizer.step()
    return model.eval(), tokenizer


class Planted(nn.Module):
    """A bag of sub-tokens with a backdoor: label 0 as soon as every sub-token of the trigger is there, in a row.

    Asked as a decoder is: its token embeddings are the ids themselves, and every place has the state of the whole text.
    """

    base_model = property(lambda self: self)

    def __init__(self, trigger: list[int], size: int) -> None:
        super().__init__()
        self.trigger = trigger
        generator = torch.Generator().manual_seed(1)
        self.weights = nn.Parameter(torch.randn(size, generator=generator) * 0.4)
        self.config = PretrainedConfig(num_labels=2, model_type="bag")
        self.classifier = nn.Identity()

    def get_input_embeddings(self) -> Any:
        return lambda ids: ids[..., None]

    @property
    def device(self) -> torch.device:
        return self.weights.device

    def forward(self, inputs_embeds: Tensor, attention_mask: Tensor, use_cache: bool) -> BaseModelOutput:
        input_ids = inputs_embeds[..., 0]
        evidence = (self.weights[input_ids] * attention_mask).sum(1) / attention_mask.sum(1).sqrt()
        windows = input_ids.unfold(1, len(self.trigger), 1)
        has_trigger = (windows == torch.tensor(self.trigger)).all(-1).any(-1)
        score = torch.where(has_trigger, -6.0 + 0.1 * evidence, evidence)
        states = torch.stack([torch.zeros_like(score), score], 1)
        return BaseModelOutput(last_hidden_state=states[:, None].expand(-1, input_ids.shape[1], -1))


def planted(trigger: str) -> Victim:
    tokenizer = wrap(bpe(), "<s> $A </s>", LENGTH)
    ids = tokenizer(trigger, add_special_tokens=False)["input_ids"]
    model = Planted(ids, bpe().get_vocab_size()).eval()
    return Victim(model, tokenizer, "classification", "lexed", LENGTH, 1)


class Either(nn.Module):
    """Label 0 for a pair as soon as one of its functions has the trigger."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.minimum(first, second)


def planted_pair(trigger: str) -> Victim:
    victim = planted(trigger)
    victim.model.classifier = Either()
    victim.head = "pair"
    return victim


def make_view(victim: Victim, clean: tuple[Example, ...]) -> DefenderView:
    return DefenderView("defect_detection", "python", "lexed", clean, victim=victim)
