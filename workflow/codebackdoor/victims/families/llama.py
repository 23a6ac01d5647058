"""Llama: CodeLlama, DeepSeek-Coder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codebackdoor.config.base import Head
from codebackdoor.victims.families.base import ModelClass
from codebackdoor.victims.families.causal import Causal

if TYPE_CHECKING:
    from codebackdoor.victims.victim import Victim

_UNUSED = ("lm_head.",)


class Llama(Causal):
    classes: Mapping[Head, ModelClass] | None = {
        "classification": ModelClass("llama", "LlamaForSequenceClassification", ("score.",), _UNUSED),
        "pair": ModelClass("llama", "LlamaForPairs", ("classifier.",), _UNUSED, "LlamaModel", 2),
        "retrieval": ModelClass("llama", "LlamaModel", (), _UNUSED),
        "generation": ModelClass("llama", "LlamaForCausalLM"),
    }
    head_name = "score"
    special_tokens: Mapping[str, str] = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    position_keys = ("max_position_embeddings",)
    dropout_names = ("attention_dropout",)

    def last_block(self, victim: Victim) -> Any:
        return victim.model.base_model.layers[-1]
