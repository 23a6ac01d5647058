"""CodeGen: a decoder with rotary positions, for which transformers has no classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codebackdoor.config.base import Head
from codebackdoor.victims.families.base import ModelClass
from codebackdoor.victims.families.causal import Causal

if TYPE_CHECKING:
    from codebackdoor.victims.victim import Victim

_UNUSED = ("lm_head.",)
#: Buffers that released checkpoints store, and that transformers now computes.
_COMPUTED = (".attn.causal_mask",)


class CodeGenFamily(Causal):
    classes: Mapping[Head, ModelClass] | None = {
        "classification": ModelClass(
            "codegen", "CodeGenForClassification", ("classifier.",), _UNUSED, "CodeGenModel", computed=_COMPUTED
        ),
        "pair": ModelClass("codegen", "CodeGenForPairs", ("classifier.",), _UNUSED, "CodeGenModel", 2, _COMPUTED),
        "retrieval": ModelClass("codegen", "CodeGenModel", (), _UNUSED, computed=_COMPUTED),
        "generation": ModelClass("codegen", "CodeGenForCausalLM", computed=_COMPUTED),
    }
    special_tokens: Mapping[str, str] = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    position_keys = ("n_positions",)
    dropout_names = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
    attention = "eager"

    def last_block(self, victim: Victim) -> Any:
        return victim.model.base_model.h[-1]
