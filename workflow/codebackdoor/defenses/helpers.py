"""The helper models of filters and purifications: loaded strictly, from safetensors only, in eval mode (ledger P9)."""

from __future__ import annotations

from typing import Any

from codebackdoor.defenses.views import TextView
from codebackdoor.errors import UserError, nearest
from codebackdoor.files import read_object
from codebackdoor.victims import devices
from codebackdoor.victims.checkpoints import check_safetensors, load_weights, local_folder
from codebackdoor.victims.families import ModelClass
from codebackdoor.victims.families.helpers import HELPER_MODELS
from codebackdoor.victims.tokenizer_loading import check_tokenizer, load_tokenizer

MASKED, CAUSAL, REPLACED = (
    {HELPER_MODELS[helper].model_type: HELPER_MODELS[helper]}
    for helper in ("infiller", "language_model", "discriminator")
)


def load_helper(view: TextView, name: str, classes: dict[str, ModelClass]) -> tuple[Any, Any]:
    """Return (model, fast tokenizer) of the view's helper ``name``; ``classes`` has the model types that it can have.

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
