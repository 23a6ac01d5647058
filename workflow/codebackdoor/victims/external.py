"""External checkpoints: a folder that `save_pretrained` wrote, with or without this project's own section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from codebackdoor.config.base import Head
from codebackdoor.config.model_settings import Pooling
from codebackdoor.errors import UserError
from codebackdoor.files import read_object
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, TextForm
from codebackdoor.victims import devices
from codebackdoor.victims.checkpoints import check_safetensors, load_weights, loading
from codebackdoor.victims.families import family_of, model_class, named_classes
from codebackdoor.victims.headers import listed
from codebackdoor.victims.tokenizer_loading import check_tokenizer, load_tokenizer, longest_input
from codebackdoor.victims.trial import check_answers
from codebackdoor.victims.victim import KEY, LONGEST, Similarity, Victim, check_output, load_victim

#: Maximum input length, in sub-tokens, if neither the tokenizer nor a position table limits it (T5).
_UNSTATED = 512
#: Share of the median sample that a model must be able to read, unless the user chose the length.
_SHARE = 0.5


def load_checkpoint(
    path: Path,
    head: Head,
    text_form: TextForm | None = None,
    max_length: int | None = None,
    pooling: Pooling | None = None,
    similarity: Similarity | None = None,
) -> Victim:
    """Load a model with this head in eval mode; its card, if it has one, is ignored.

    Arguments that are None are taken from the folder's own section. Without such a section, they default to ``raw``,
    the longest input (sub-tokens) that the tokenizer and the positions allow, the pooling of the family's classifiers,
    and the cosine. For retrieval, only the body of the model is used, whichever class it was saved as. Raises UserError
    for a folder that is not a safetensors checkpoint of a supported class with this head, for lengths beyond the
    model's, and for a decoder with first-state pooling.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; name one that save_pretrained wrote")
    check_safetensors(path)
    config = read_object(path / "config.json")
    with loading(path):
        victim = load_victim(path) if isinstance(config.get(KEY), dict) else _without_section(path, config, head)
    if victim.head != head:
        raise UserError(f"{path}: a model with a {victim.head} head; this task needs a {head} head; name another task")
    if HEADS[head].predicts_label and victim.model.config.num_labels < 2:
        raise UserError(
            f"{path}: the model has one output (num_labels 1); a classifier of at least two labels is needed"
        )
    if hasattr(victim.model.config, KEY):
        delattr(victim.model.config, KEY)
    positions = victim.family.longest_input(victim.model.config.to_dict())
    longest = LONGEST if positions is None else positions
    if longest < 3:
        raise UserError(f"{path}: config.json leaves no place for a text (max_position_embeddings, pad_token_id)")
    if max_length is not None and not 2 < max_length <= longest:
        raise UserError(f"{path}: --max-length {max_length}: this model reads at most {longest} sub-tokens")
    victim = replace(
        victim,
        text_form=text_form or victim.text_form,
        # a section may declare more than the model has
        max_length=max_length or min(victim.max_length, longest),
        max_target_length=min(victim.max_target_length, longest),
        max_query_length=min(victim.max_query_length, longest),
        pooling=pooling or victim.pooling,
        similarity=similarity or victim.similarity,
        # the factor of another similarity does not apply
        scale=victim.scale if similarity in (None, victim.similarity) else None,
    )
    if victim.family.is_causal and victim.pooling == "first" and not HEADS[head].generates:
        raise UserError(f"{path}: a decoder's first state has read only one sub-token; choose another (--pooling)")
    check_output(victim, path)
    check_answers(victim, path)
    return victim


def _without_section(path: Path, config: Mapping[str, object], head: Head) -> Victim:
    model_type, architectures = str(config.get("model_type")), config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    classes = named_classes(model_type)
    heads = [class_head for class_head, cls in classes if cls.name in names]
    if HEADS[head].ranks and head in dict(classes):
        # encoders are saved bare or as part of a language model; loading checks that the body is complete
        heads = [head]
    if not heads:
        supported = ", ".join(cls.name for class_head, cls in named_classes() if class_head == head)
        raise UserError(
            f"{path}: a {listed([model_type])} checkpoint of {listed(names) or 'no named class'}; "
            f"supported: {supported}"
        )
    tokenizer, family = load_tokenizer(path), family_of(model_type)
    family.set_padding(tokenizer)
    model = load_weights(model_class(model_type, heads[0], path), path, may_drop=True)
    if HEADS[heads[0]].generates:
        family.prepare_output(tokenizer, model.config, path)
    check_tokenizer(tokenizer, model.get_input_embeddings().num_embeddings, path)
    lengths = (longest_input(tokenizer, path), family.longest_input(model.config.to_dict()))
    longest = min((length for length in lengths if length is not None), default=_UNSTATED)
    prefix: tuple[str, ...] = ()
    pooling = family.pooling
    if HEADS[head].ranks and family.encoder_prefix and family.encoder_prefix[0] in tokenizer.get_vocab():
        prefix, pooling = family.encoder_prefix, "mean"
    model = model.to(devices.device()).eval()
    return Victim(model, tokenizer, heads[0], "raw", longest, longest, longest, pooling=pooling, prefix=prefix)


def check_lengths(path: Path, victim: Victim, samples: Sequence[Example], is_explicit: bool) -> int:
    """Return how many samples are longer than the victim's inputs; UserError if most of them are much longer.

    A folder declares its own input length. If that is too short, the model would be judged by only the beginning of
    each sample. ``is_explicit``: the user chose the length, so it is accepted.
    """
    unlimited = replace(victim, max_length=LONGEST, max_query_length=LONGEST)
    column = victim.fields.index("code")
    sizes = [len(texts[column].ids) for texts in unlimited.tokenize(samples)]
    if not is_explicit and victim.max_length < _SHARE * median(sizes):
        raise UserError(
            f"{path}: according to its folder, this model reads {victim.max_length} sub-tokens of each sample, and "
            f"half of the samples have {median(sizes):.0f} or more: too little for a verdict; name --max-length"
        )
    return sum(size > victim.max_length for size in sizes)
