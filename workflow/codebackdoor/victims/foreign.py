"""Checkpoints from anywhere: a folder that `save_pretrained` wrote, with or without this project's own section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from codebackdoor.config.base import Head
from codebackdoor.config.models import Pooling
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.types import TextForm
from codebackdoor.victims import devices
from codebackdoor.victims.checkpoints import MODEL_CLASSES, check_safetensors, load_weights, model_class
from codebackdoor.victims.tokens import ENCODER_PREFIX, NO_PADDING, pad_by_end
from codebackdoor.victims.victim import KEY, Similarity, Victim, load_tokenizer, load_victim, write_folder

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
    config = read_json(path / "config.json")
    if not isinstance(config, dict):
        raise UserError(f"{path / 'config.json'}: not a model's configuration")
    try:
        victim = load_victim(path) if isinstance(config.get(KEY), dict) else _foreign(path, config, head)
    except UserError:
        raise
    except Exception as error:  # whatever a library raises at a configuration that nobody has checked
        said = str(error).strip().splitlines() or [""]
        raise UserError(f"{path}: cannot load the model: {type(error).__name__}: {said[0]}") from error
    if victim.head != head:
        raise UserError(f"{path}: a model with a {victim.head} head; this task needs a {head} head")
    if head in ("classification", "pair") and victim.model.config.num_labels < 2:
        raise UserError(
            f"{path}: the model has one output (num_labels 1); a classifier of at least two labels is needed"
        )
    if hasattr(victim.model.config, KEY):
        delattr(victim.model.config, KEY)
    longest = _longest(victim)
    if max_length is not None and not 2 < max_length <= longest:
        raise UserError(f"{path}: --max-length {max_length}: this model reads at most {longest} sub-tokens")
    # a configured section may promise more than the model has
    wanted = max_length or min(victim.max_length, longest)
    victim = replace(
        victim,
        text_form=text_form or victim.text_form,
        max_length=wanted,
        max_query_length=min(victim.max_query_length, longest),
        pooling=pooling or victim.pooling,
        similarity=similarity or victim.similarity,
        # that of another similarity says nothing of this one
        scale=victim.scale if similarity in (None, victim.similarity) else None,
    )
    if victim.model.config.model_type == "gpt_bigcode" and victim.pooling == "first":
        raise UserError(f"{path}: a decoder's first state has read one sub-token alone; read another (--pooling)")
    if len(victim.tokenizer) > victim.model.get_input_embeddings().num_embeddings:
        raise UserError(
            f"{path}: the tokenizer has {len(victim.tokenizer)} pieces, the model only "
            f"{victim.model.get_input_embeddings().num_embeddings}: they do not belong together"
        )
    if victim.tokenizer.pad_token_id is None:
        raise UserError(f"{path}: {NO_PADDING}")
    return victim


def _foreign(path: Path, config: dict[str, object], head: Head) -> Victim:
    kind, written = str(config.get("model_type")), config.get("architectures")
    names = [str(name) for name in written] if isinstance(written, list) else []
    heads = [one for (model, one), cls in MODEL_CLASSES.items() if model == kind and cls.name in names]
    if head == "retrieval" and (kind, head) in MODEL_CLASSES:
        # encoders are saved bare or under their language model; whether all of the body is there, its weights say
        heads = [head]
    if not heads:
        known = ", ".join(cls.name for (_, one), cls in MODEL_CLASSES.items() if one == head)
        raise UserError(f"{path}: a {kind} checkpoint of {', '.join(names) or 'no named class'}; supported: {known}")
    tokenizer = load_tokenizer(path)
    pad_by_end(tokenizer, kind)
    weights = load_weights(model_class(kind, heads[0], path), path, may_drop=head == "retrieval")
    victim = Victim(weights.to(devices.device()).eval(), tokenizer, heads[0], "raw", 0, 0, pooling=READS[kind])
    if head == "retrieval" and kind == "roberta" and ENCODER_PREFIX[0] in tokenizer.get_vocab():
        victim = replace(victim, pooling="mean", prefix=ENCODER_PREFIX)
    longest = _longest(victim)
    return replace(victim, max_length=longest, max_target_length=longest, max_query_length=longest)


def _longest(victim: Victim) -> int:
    """Sub-tokens of the longest input, as far as the tokenizer and a table of positions say."""
    # without one, transformers writes a very large number
    limits = [int(victim.tokenizer.model_max_length)]
    positions = getattr(victim.model.config, "max_position_embeddings", None)
    if positions is not None:
        # RoBERTa's first place stands behind the padding's
        offset = victim.model.config.pad_token_id + 1 if victim.model.config.model_type == "roberta" else 0
        limits.append(int(positions) - offset)
    found = min(limits)
    return found if found < 10**6 else 512


def save_edited(
    victim: Victim, source: Path, out: Path, elimination: Mapping[str, object], said: Sequence[str]
) -> None:
    """Write an edited copy of the checkpoint ``source``; its own section of config.json, if it has one, is kept.

    ``said`` are lines for the card.
    """
    facts = read_json(source / "config.json").get(KEY)
    if isinstance(facts, dict):
        setattr(victim.model.config, KEY, facts | {"elimination": dict(elimination)})
    text = "\n".join(f"    {line}" for line in said)
    write_folder(
        victim, out, f"# {source.name}, edited\n\nA trigger was inverted and unlearnt (EliBadCode):\n\n{text}\n"
    )
