"""From a base model to a victim that is ready to be fine-tuned: head, tokenizer, dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from codebackdoor.config.base import Head
from codebackdoor.config.models import AnyModel
from codebackdoor.errors import UserError, shown
from codebackdoor.files import read_object
from codebackdoor.seeding import derive
from codebackdoor.types import TextForm
from codebackdoor.victims import devices
from codebackdoor.victims.checkpoints import (
    ModelClass,
    check_safetensors,
    load_config,
    load_weights,
    local_folder,
    model_class,
    positions,
)
from codebackdoor.victims.declared import length_problems
from codebackdoor.victims.tokenizer_loading import check_tokenizer, load_tokenizer
from codebackdoor.victims.tokens import ENCODER_PREFIX, pad_by_end
from codebackdoor.victims.trial import check_answers
from codebackdoor.victims.victim import KEY, Victim

#: Class of transformers models by architecture.
MODEL_TYPES = {"codebert": "roberta", "unixcoder": "roberta", "codet5": "t5", "starcoder": "gpt_bigcode"}
#: Where each class keeps its rates of dropout; a head's own falls back on them.
_DROPOUT = {
    "roberta": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "t5": ("dropout_rate", "classifier_dropout"),
    "gpt_bigcode": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
}


def new_victim(
    settings: AnyModel, base: str | Path, head: Head, text_form: TextForm, labels: int | None, seed: int
) -> Victim:
    """Return the base model with the head of a task; a new head's weights depend on the seed only.

    ``base`` is a folder in hub format or a hub id with its commit; ``labels`` is None where there are none.
    Raises UserError where the base is of another architecture, not safetensors, or too small for the settings.
    """
    folder = local_folder(base)
    check_safetensors(folder)
    cls = model_class(MODEL_TYPES[settings.architecture], head, folder)
    _check_type(cls, folder, settings)
    config = load_config(cls, folder)
    vars(config).pop(KEY, None)
    for name in _DROPOUT[cls.model_type]:
        setattr(config, name, settings.dropout)
    if labels is not None:
        config.num_labels = labels
    if head == "pair":
        config.pair_features = settings.pair_features
    tokenizer = load_tokenizer(folder)
    pad_by_end(tokenizer, cls.model_type)
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    for _, sentence in length_problems(positions(config), settings, [head]):
        raise UserError(f"{folder}: {sentence}")
    check_tokenizer(tokenizer, config.vocab_size, folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "head"))
        model = load_weights(cls, folder, config, fine_tuning=True)
    if cls.model_type == "t5" and head in ("classification", "pair") and settings.is_small:
        _lower_states(model)
    marked = settings.architecture == "unixcoder" and ENCODER_PREFIX[0] in tokenizer.get_vocab()
    victim = Victim(
        model.to(devices.device()),
        tokenizer,
        head,
        text_form,
        settings.max_length,
        settings.max_target_length,
        settings.max_query_length,
        settings.pooling or settings.reads,
        settings.similarity,
        ENCODER_PREFIX if marked else (),
        settings.scale if head == "retrieval" else None,
    )
    check_answers(victim, folder)
    return victim


@torch.no_grad()
def _lower_states(model: Any) -> None:
    """Make the decoder's states as small as T5's own output layer takes them, where it shares the embeddings.

    That layer multiplies them by d_model^-0.5. A new head does not: on the states of the shipped base its tanh is
    saturated, and clone detection stays at chance (docs/dev/feasibility.md). Other checkpoints are left as they are.
    """
    if model.config.tie_word_embeddings:
        model.base_model.decoder.final_layer_norm.weight *= model.config.d_model**-0.5


def _check_type(cls: ModelClass, folder: Path, settings: AnyModel) -> None:
    model_type = read_object(folder / "config.json").get("model_type")
    if model_type != cls.model_type:
        raise UserError(
            f"{folder}: {settings.architecture} is fine-tuned from a base of type {cls.model_type!r}, "
            f"this one is {shown(model_type)}"
        )
