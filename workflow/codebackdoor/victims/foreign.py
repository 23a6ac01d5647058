"""Checkpoints from anywhere: a folder that `save_pretrained` wrote, with or without this project's own section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from codebackdoor.config.base import Head
from codebackdoor.config.models import Pooling
from codebackdoor.errors import UserError
from codebackdoor.files import read_object
from codebackdoor.types import Example, TextForm
from codebackdoor.victims import devices
from codebackdoor.victims.checkpoints import (
    MODEL_CLASSES,
    check_safetensors,
    load_weights,
    loading,
    model_class,
    positions,
)
from codebackdoor.victims.headers import listed
from codebackdoor.victims.tokenizer_loading import check_tokenizer, load_tokenizer, longest_input
from codebackdoor.victims.tokens import ENCODER_PREFIX, pad_by_end
from codebackdoor.victims.trial import check_answers
from codebackdoor.victims.victim import KEY, LONGEST, Similarity, Victim, load_victim

#: Sub-tokens of the longest input where neither the tokenizer nor a table of positions says it (T5).
_UNSTATED = 512
#: Of the median sample, what a model must read by itself.
_SHARE = 0.5
#: The state that transformers' own classifiers read of a text.
READS: Mapping[str, Pooling] = {"roberta": "first", "t5": "last", "gpt_bigcode": "last"}


def load_checkpoint(
    path: Path,
    head: Head,
    text_form: TextForm | None = None,
    max_length: int | None = None,
    pooling: Pooling | None = None,
    similarity: Similarity | None = None,
) -> Victim:
    """Load a model of this head in eval mode; its card, if it has one, is not looked at.

    What is None is what the folder's own section says where it has one, else ``raw``, the longest input (sub-tokens)
    that tokenizer and positions allow, the state that the class reads, and the cosine. A foreign encoder for search is
    the body of whatever it was saved as. Raises UserError for a folder that is not a safetensors checkpoint of a
    supported class with this head, for lengths that the model does not have, and for a decoder's first state.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; name one that save_pretrained wrote")
    check_safetensors(path)
    config = read_object(path / "config.json")
    with loading(path):
        victim = load_victim(path) if isinstance(config.get(KEY), dict) else _foreign(path, config, head)
    if victim.head != head:
        raise UserError(f"{path}: a model with a {victim.head} head; this task needs a {head} head")
    if head in ("classification", "pair") and victim.model.config.num_labels < 2:
        raise UserError(
            f"{path}: the model has one output (num_labels 1); a classifier of at least two labels is needed"
        )
    if hasattr(victim.model.config, KEY):
        delattr(victim.model.config, KEY)
    places = positions(victim.model.config)
    longest = LONGEST if places is None else places
    if longest < 3:
        raise UserError(f"{path}: config.json leaves no place for a text (max_position_embeddings, pad_token_id)")
    if max_length is not None and not 2 < max_length <= longest:
        raise UserError(f"{path}: --max-length {max_length}: this model reads at most {longest} sub-tokens")
    victim = replace(
        victim,
        text_form=text_form or victim.text_form,
        # a configured section may promise more than the model has
        max_length=max_length or min(victim.max_length, longest),
        max_query_length=min(victim.max_query_length, longest),
        pooling=pooling or victim.pooling,
        similarity=similarity or victim.similarity,
        # that of another similarity says nothing of this one
        scale=victim.scale if similarity in (None, victim.similarity) else None,
    )
    if victim.model.config.model_type == "gpt_bigcode" and victim.pooling == "first":
        raise UserError(f"{path}: a decoder's first state has read one sub-token alone; read another (--pooling)")
    check_answers(victim, path)
    return victim


def _foreign(path: Path, config: Mapping[str, object], head: Head) -> Victim:
    kind, written = str(config.get("model_type")), config.get("architectures")
    names = [str(name) for name in written] if isinstance(written, list) else []
    heads = [fitting for (model, fitting), cls in MODEL_CLASSES.items() if model == kind and cls.name in names]
    if head == "retrieval" and (kind, head) in MODEL_CLASSES:
        # encoders are saved bare or under their language model; whether all of the body is there, its weights say
        heads = [head]
    if not heads:
        supported = ", ".join(cls.name for (_, fitting), cls in MODEL_CLASSES.items() if fitting == head)
        raise UserError(
            f"{path}: a {listed([kind])} checkpoint of {listed(names) or 'no named class'}; supported: {supported}"
        )
    tokenizer = load_tokenizer(path)
    pad_by_end(tokenizer, kind)
    model = load_weights(model_class(kind, heads[0], path), path, may_drop=True)
    check_tokenizer(tokenizer, model.get_input_embeddings().num_embeddings, path)
    lengths = (longest_input(tokenizer, path), positions(model.config))
    longest = min((length for length in lengths if length is not None), default=_UNSTATED)
    victim = Victim(
        model.to(devices.device()).eval(), tokenizer, heads[0], "raw", longest, longest, longest, pooling=READS[kind]
    )
    if head == "retrieval" and kind == "roberta" and ENCODER_PREFIX[0] in tokenizer.get_vocab():
        return replace(victim, pooling="mean", prefix=ENCODER_PREFIX)
    return victim


def check_lengths(path: Path, victim: Victim, samples: Sequence[Example], chosen: bool) -> int:
    """Return how many samples are longer than the victim reads; UserError where it reads far less than there is.

    A folder says of itself how long its inputs are. One that says too little would be judged by the beginning of each
    sample. ``chosen``: the length is the person's own, which is not refused.
    """
    whole = replace(victim, max_length=LONGEST, max_query_length=LONGEST)
    place = victim.fields.index("code")
    sizes = [len(texts[place].ids) for texts in whole.read(samples)]
    if not chosen and victim.max_length < _SHARE * median(sizes):
        raise UserError(
            f"{path}: by what its folder says, this model reads {victim.max_length} sub-tokens of each sample, and "
            f"half of the samples have {median(sizes):.0f} or more: too little for a verdict; name --max-length"
        )
    return sum(size > victim.max_length for size in sizes)
