"""From a base model to a victim that is ready to be fine-tuned: head, tokenizer, dropout (DESIGN section 8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from codebackdoor.config.base import Head
from codebackdoor.config.models import AnyModel
from codebackdoor.errors import UserError
from codebackdoor.seeding import derive
from codebackdoor.types import TextForm
from codebackdoor.victims.checkpoints import check_safetensors, load_weights, model_class
from codebackdoor.victims.victim import KEY, Victim, default_device, load_tokenizer

#: Class of transformers models by architecture.
MODEL_TYPES = {"codebert": "roberta", "codet5": "t5"}
#: Where each class keeps its rates of dropout; a head's own falls back on them.
_DROPOUT = {"roberta": ("hidden_dropout_prob", "attention_probs_dropout_prob"), "t5": ("dropout_rate",)}


def new_victim(
    settings: AnyModel, base: str | Path, head: Head, text_form: TextForm, labels: int | None, seed: int
) -> Victim:
    """Return the base model with the head of a task; a new head's weights depend on the seed only.

    ``base`` is a folder in hub format or, where ``settings.is_hub``, a hub id; ``labels`` is None for generation.
    Raises UserError where the base is of another architecture, not safetensors, or too small for the settings.
    """
    source = str(base)
    if not settings.is_hub:
        check_safetensors(Path(base))
    cls = model_class(MODEL_TYPES[settings.architecture], head, source)
    config = _config(cls.load().config_class, cls.model_type, source, settings)
    for name in _DROPOUT[cls.model_type]:
        setattr(config, name, settings.dropout)
    if labels is not None:
        config.num_labels = labels
    tokenizer = load_tokenizer(source, settings.revision)
    _check_sizes(config, tokenizer, settings, source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "head"))
        model = load_weights(cls, source, config, settings.revision, fine_tuning=True)
    lengths = settings.max_length, settings.max_target_length
    return Victim(model.to(default_device()), tokenizer, head, text_form, *lengths)


def _config(config_class: Any, model_type: str, source: str, settings: AnyModel) -> Any:
    try:
        raw, _ = config_class.get_config_dict(
            source, revision=settings.revision or "main", local_files_only=not settings.is_hub
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: cannot load the configuration: {str(error).splitlines()[0]}") from error
    if raw.get("model_type") != model_type:
        raise UserError(
            f"{source}: {settings.architecture} is fine-tuned from a base of type {model_type!r}, "
            f"this one is {raw.get('model_type')!r}"
        )
    raw.pop(KEY, None)
    return config_class.from_dict(raw)


def _check_sizes(config: Any, tokenizer: Any, settings: AnyModel, source: str) -> None:
    if config.model_type == "roberta":
        # RoBERTa's positions begin after that of the padding
        room = config.max_position_embeddings - config.pad_token_id - 1
        if settings.max_length > room:
            raise UserError(f"{source}: this base reads {room} sub-tokens; write max_length: {room} or less")
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"{source}: the tokenizer has {len(tokenizer)} entries, the model embeds {config.vocab_size}; "
            "they do not belong together"
        )
