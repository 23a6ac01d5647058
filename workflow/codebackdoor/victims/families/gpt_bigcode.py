"""GPTBigCode: StarCoder, SantaCoder. A decoder whose last sub-token's state represents a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codebackdoor.config.base import Head
from codebackdoor.victims.families.base import ModelClass
from codebackdoor.victims.families.causal import Causal

if TYPE_CHECKING:
    from codebackdoor.victims.victim import Victim

_UNUSED = ("lm_head.",)


class GPTBigCode(Causal):
    classes: Mapping[Head, ModelClass] | None = {
        "classification": ModelClass("gpt_bigcode", "GPTBigCodeForSequenceClassification", ("score.",), _UNUSED),
        "pair": ModelClass("gpt_bigcode", "GPTBigCodeForPairs", ("classifier.",), _UNUSED, "GPTBigCodeModel", 2),
        "retrieval": ModelClass("gpt_bigcode", "GPTBigCodeModel", (), _UNUSED),
        "generation": ModelClass("gpt_bigcode", "GPTBigCodeForCausalLM"),
    }
    head_name = "score"
    special_tokens: Mapping[str, str] = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    position_keys = ("n_positions",)
    dropout_names = ("resid_pdrop", "embd_pdrop", "attn_pdrop")

    def last_block(self, victim: Victim) -> Any:
        return victim.model.base_model.h[-1]
