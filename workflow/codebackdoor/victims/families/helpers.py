"""The classes of the helper models, which defenses use in addition to a victim."""

from __future__ import annotations

from collections.abc import Mapping

from codebackdoor.config.base import Helper
from codebackdoor.victims.families.base import ModelClass

#: Helpers with a fixed class; the paraphraser may have any class that generates text.
HELPER_MODELS: Mapping[Helper, ModelClass] = {
    # old checkpoints of masked language models (CodeBERT's among them) contain an unused pooler
    "infiller": ModelClass("roberta", "RobertaForMaskedLM", dropped=("roberta.pooler.",)),
    "language_model": ModelClass("gpt2", "GPT2LMHeadModel"),
    "english_model": ModelClass("gpt2", "GPT2LMHeadModel"),
    "discriminator": ModelClass("electra", "ElectraForPreTraining"),
}
