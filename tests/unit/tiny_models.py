"""Tiny victims with random weights, made in the test: two layers, 32 wide."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from codebackdoor.basemodels.tokenizer import train_bpe, wrap
from codebackdoor.victims.victim import Victim

TEXTS = (
    "def f ( a ) : <indent> return a + 1 <dedent>",
    "x = 'é' <nl> y = 2",
    "def defect ( b , a ) : <indent> if a > b : <indent> return b <dedent> return a <dedent>",
)


@cache
def bpe() -> Any:
    return train_bpe(TEXTS, 320)


def classifier(seed: int = 0, max_length: int = 32, dropout: float = 0.0) -> Victim:
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaForSequenceClassification

    config = RobertaConfig(
        vocab_size=bpe().get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=max_length + 2,
        type_vocab_size=1,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    tokenizer = wrap(bpe(), "<s> $A </s>", max_length)
    return Victim(_built(RobertaForSequenceClassification, config, seed), tokenizer, "classification", "lexed", 32, 12)


def crafter(head: Any = "classification", seed: int = 0, max_length: int = 400, pooling: Any = "first") -> Victim:
    """A victim that judges, with the shipped tokenizer, which knows names enough for a function."""
    from tokenizers import Tokenizer

    from codebackdoor.victims.families import model_class

    shipped = Tokenizer.from_file(str(Path(__file__).parents[2] / "basemodels/encoder/tokenizer.json"))
    cls = model_class("roberta", head, "test").load()
    config = cls.config_class(
        vocab_size=shipped.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=max_length + 2,
        type_vocab_size=1,
    )
    model = _built(cls, config, seed)
    # what the first place hears of the others, which in a fresh model is next to nothing
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "position" not in name:
            parameter.data *= 10
    return Victim(model, wrap(shipped, "<s> $A </s>", max_length), head, "lexed", max_length, 12, 32, pooling=pooling)


def generator(seed: int = 0, max_length: int = 32, dropout: float = 0.0) -> Victim:
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

    config = T5Config(
        vocab_size=bpe().get_vocab_size(),
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        dropout_rate=dropout,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        tie_word_embeddings=True,
    )
    tokenizer = wrap(bpe(), "$A </s>", max_length)
    return Victim(_built(T5ForConditionalGeneration, config, seed), tokenizer, "generation", "lexed", 32, 12)


def encoder_with_decoder(seed: int = 0, max_length: int = 32, dropout: float = 0.0) -> Victim:
    """A victim of the RoBERTa class that generates."""
    from codebackdoor.victims.families import model_class

    cls = model_class("roberta", "generation", "test").load()
    config = cls.config_class(
        vocab_size=bpe().get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=max_length + 2,
        type_vocab_size=1,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    model = _built(cls, config, seed)
    # the outputs of a fresh model hardly depend on its input
    for name, parameter in model.roberta.named_parameters():
        if parameter.ndim > 1 and "position" not in name:
            parameter.data *= 5
    tokenizer = wrap(bpe(), "<s> $A </s>", max_length)
    return Victim(model, tokenizer, "generation", "lexed", 32, 12)


def _built(cls: Any, config: Any, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(config).eval()


def base_folder(folder: Path, family: str) -> Path:
    """Write a base model in hub format: a masked LM of the RoBERTa class, or a T5."""
    victim = classifier() if family == "encoder" else generator()
    model = victim.model
    if family == "encoder":
        from transformers.models.roberta.modeling_roberta import RobertaForMaskedLM

        model = _built(RobertaForMaskedLM, model.config, 0)
    model.save_pretrained(folder)
    victim.tokenizer.save_pretrained(folder)
    return folder


HEADS = ("classification", "pair", "retrieval")


def understanding(family: str, head: Any, seed: int = 0, max_length: int = 32) -> Victim:
    """A victim that judges: RoBERTas that read the ``first`` token or the ``mean`` of all, a ``t5``, a ``gpt``."""
    from codebackdoor.victims.families import model_class

    kind = {"t5": "t5", "gpt": "gpt_bigcode"}.get(family, "roberta")
    cls = model_class(kind, head, "test").load()
    sizes: dict[str, Any] = {"vocab_size": bpe().get_vocab_size(), "pad_token_id": 1, "eos_token_id": 2}
    if kind == "t5":
        sizes |= {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 1}
    else:
        sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "bos_token_id": 0}
        sizes |= {"max_position_embeddings": max_length + 2}
        sizes |= {"n_inner": 64} if kind == "gpt_bigcode" else {"intermediate_size": 64, "type_vocab_size": 1}
    config = cls.config_class(**sizes, pair_features="interaction")
    pooling: Any = family if kind == "roberta" else "last"
    tokenizer = wrap(bpe(), "<s> $A </s>", max_length)
    lengths = max_length, 12, max_length
    return Victim(_built(cls, config, seed), tokenizer, head, "lexed", *lengths, pooling=pooling)
