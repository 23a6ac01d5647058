"""From a base model to a victim that is ready to be fine-tuned: head, tokenizer, dropout."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from codebackdoor.config.base import Head
from codebackdoor.config.models import AnyModel
from codebackdoor.errors import UserError
from codebackdoor.files import read_object
from codebackdoor.heads import HEADS
from codebackdoor.seeding import derive
from codebackdoor.types import Field, TextForm
from codebackdoor.victims import devices
from codebackdoor.victims.checkpoints import check_safetensors, load_config, load_weights, local_folder
from codebackdoor.victims.declared import length_problems, type_problem
from codebackdoor.victims.families import family_of, model_class
from codebackdoor.victims.tokenizer_loading import check_tokenizer, load_tokenizer
from codebackdoor.victims.trial import check_answers
from codebackdoor.victims.victim import KEY, Victim, check_output


def new_victim(
    settings: AnyModel,
    base: str | Path,
    head: Head,
    text_form: TextForm,
    labels: int | None,
    seed: int,
    reads: Iterable[Field] | None = None,
) -> Victim:
    """Return the base model with the head of a task; a new head's weights depend only on the seed.

    ``base`` is a folder in hub format or a hub id with a commit; ``labels`` is None if the task has none; ``reads``:
    the fields of an example that the victim reads, if not those of its head.
    Raises UserError if the base model has the wrong type, is not safetensors, or is too small for the settings.
    """
    folder = local_folder(base)
    check_safetensors(folder)
    cls, family = model_class(settings.base_type, head, folder), family_of(settings.base_type)
    if (problem := type_problem(read_object(folder / "config.json"), settings)) is not None:
        raise UserError(f"{folder}: {problem}")
    config = load_config(cls, folder)
    vars(config).pop(KEY, None)
    for name in family.dropout_fields(config):
        setattr(config, name, settings.dropout)
    if labels is not None:
        _set_labels(config, labels)
    if HEADS[head].reads_pairs:
        config.pair_features = settings.pair_features
    for name, size in settings.decoder_sizes.items() if HEADS[head].generates else ():
        setattr(config, name, size)
    tokenizer = load_tokenizer(folder)
    family.set_padding(tokenizer)
    if HEADS[head].generates:
        family.prepare_output(tokenizer, config, folder)
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    for _, sentence in length_problems(family.longest_input(config.to_dict()), settings, [head]):
        raise UserError(f"{folder}: {sentence}")
    check_tokenizer(tokenizer, config.vocab_size, folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "head"))
        model = load_weights(cls, folder, config, fine_tuning=True, dtype=getattr(torch, settings.weights))
    if settings.is_small:
        family.adapt_small_base(model, head)
    has_prefix = bool(settings.prefix) and settings.prefix[0] in tokenizer.get_vocab()
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
        settings.prefix if has_prefix else (),
        settings.scale if HEADS[head].ranks else None,
        None if reads is None else tuple(reads),
        separator=settings.separates if HEADS[head].generates else None,
    )
    check_output(victim, folder)
    check_answers(victim, folder)
    return victim


def _set_labels(config: Any, labels: int) -> None:
    """Set the number of labels, with names: transformers does not save two unnamed labels, even for a class whose
    default is not two (BART)."""
    config.num_labels = labels
    if labels != type(config)().num_labels and "id2label" not in config.to_diff_dict():
        config.id2label = {label: str(label) for label in range(labels)}
