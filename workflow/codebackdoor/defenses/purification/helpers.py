"""The helper models of purifications: loaded strictly, from safetensors only, in eval mode (ledger P9)."""

from __future__ import annotations

from typing import Any

from codebackdoor.defenses.views import TextView
from codebackdoor.errors import UserError, nearest
from codebackdoor.files import read_object
from codebackdoor.victims import devices
from codebackdoor.victims.checkpoints import ModelClass, check_safetensors, load_weights, local_folder
from codebackdoor.victims.tokenizer_loading import check_tokenizer, load_tokenizer

#: Old checkpoints of masked language models (such as CodeBERT's) contain a pooler that is never used.
MASKED: dict[str, ModelClass] = {"roberta": ModelClass("roberta", "RobertaForMaskedLM", dropped=("roberta.pooler.",))}
CAUSAL: dict[str, ModelClass] = {"gpt2": ModelClass("gpt2", "GPT2LMHeadModel")}
REPLACED: dict[str, ModelClass] = {"electra": ModelClass("electra", "ElectraForPreTraining")}


def load_helper(view: TextView, name: str, classes: dict[str, ModelClass]) -> tuple[Any, Any]:
    """Return (model, fast tokenizer) of the view's helper ``name``; ``classes`` are the model types that it can have.

    Raises UserError if the helper is missing, has another type, or its weights do not match its class exactly.
    """
    if name not in view.helpers:
        raise UserError(f"the helper model {name!r} is missing; name a folder for it")
    path = local_folder(view.helpers[name])
    check_safetensors(path)
    model_type = str(read_object(path / "config.json").get("model_type"))
    if model_type not in classes:
        raise UserError(f"{path}: a model of type {model_type!r} cannot be the {name}{nearest(model_type, classes)}")
    model, tokenizer = load_weights(classes[model_type], path, may_drop=True), load_tokenizer(path)
    check_tokenizer(tokenizer, model.get_input_embeddings().num_embeddings, path)
    return model.to(devices.device()).eval(), tokenizer
