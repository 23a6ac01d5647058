"""A victim: a fine-tuned model with its tokenizer and the facts needed to run it.

On disk it is a folder in hub format: config.json, model.safetensors, tokenizer files, a card and checksums. Facts for
which transformers has no field are stored in config.json under the key ``codebackdoor``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic
import torch

from codebackdoor.config.base import Head
from codebackdoor.config.model_settings import Pooling
from codebackdoor.errors import UserError, quoted
from codebackdoor.files import read_object
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, Field, TextForm
from codebackdoor.victims import devices
from codebackdoor.victims.checkpoints import check_safetensors, load_weights
from codebackdoor.victims.families import Family, family_of, model_class
from codebackdoor.victims.folders import write_folder
from codebackdoor.victims.tokenizer_loading import check_tokenizer, load_tokenizer, tokenizing

KEY = "codebackdoor"
Similarity = Literal["cosine", "dot"]
#: Default factor of a similarity before a softmax, for folders that do not state one (UniXcoder; CodeXGLUE).
FACTORS: Mapping[Similarity, float] = {"cosine": 20.0, "dot": 1.0}
#: Default maximum length of a query, in sub-tokens.
QUERY = 64
#: Maximum length, in characters, of the separator between a prompt and its output.
LONGEST_SEPARATOR = 100
#: Maximum length, in sub-tokens, that a folder may declare: an output that does not end takes as many steps.
LONGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as sub-tokens, special tokens included.

    ``offsets[i]`` is the half-open interval of *characters* of the text that ``ids[i]`` covers, without surrounding
    spaces; (0, 0) for special tokens.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]

    @property
    def end(self) -> int:
        """Index of the first of the special tokens at the end."""
        end = len(self.ids)
        while end and self.offsets[end - 1] == (0, 0):
            end -= 1
        return end


@dataclass(eq=False, slots=True)
class Victim:
    """A model (transformers ``PreTrainedModel``), its fast tokenizer, and how it reads texts.

    The maximum lengths of code, output and query are in sub-tokens, special tokens included; a longer text is
    truncated. ``max_query_length`` applies only to heads that rank; other queries may be as long as code.
    A decoder-only model reads the ``separator`` between an input and its output, which counts toward no length.
    ``pooling`` says which state represents a text, ``similarity`` how a dual encoder compares two texts, ``scale`` the
    factor of that similarity during training (None: unknown), and ``prefix`` the special tokens between the beginning
    of sequence and a text. A classifier's logits are divided by ``temperature``, which is set for a defender's view
    (``victims.temperature``) and never stored.
    """

    model: Any
    tokenizer: Any
    head: Head
    text_form: TextForm
    max_length: int
    max_target_length: int
    max_query_length: int = QUERY
    pooling: Pooling = "first"
    similarity: Similarity = "cosine"
    prefix: tuple[str, ...] = ()
    scale: float | None = None
    #: Fields of an example that the victim reads, if its task's differ from its head's.
    reads: tuple[Field, ...] | None = None
    temperature: float = 1.0
    separator: str | None = None

    @property
    def family(self) -> Family:
        """The family of the model, which implements what depends on its type."""
        return family_of(self.model.config.model_type)

    @property
    def factor(self) -> float:
        """Factor of a dual encoder's similarities before a softmax."""
        return FACTORS[self.similarity] if self.scale is None else self.scale

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Return the sub-tokens of each text, truncated to ``max_length``."""
        return self._encode(texts, self.max_length)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of an example that the victim reads, in the order in which ``forward.logits`` takes them."""
        return self.reads or HEADS[self.head].fields

    def tokenize(self, examples: Sequence[Example]) -> list[tuple[Encoded, ...]]:
        """Return the encoded texts of each example, in the order of ``fields``."""
        columns = []
        for name in self.fields:
            missing = next((example.id for example in examples if name not in example.texts), None)
            if missing is not None:
                raise UserError(f"row {missing!r}: a {self.head} victim reads its {name!r}, and there is none")
            is_query = name == "query" and HEADS[self.head].ranks
            texts = [getattr(example, name) for example in examples]
            columns.append(self._encode(texts, self.max_query_length if is_query else self.max_length))
        return list(zip(*columns, strict=True))

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids that the victim should generate for each text, end of sequence included.

        Truncated to ``max_target_length``.
        """
        encoded = self._encode(texts, self.max_target_length)
        return [self.family.target_ids(self, text.ids) for text in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, without special tokens and surrounding space."""
        with tokenizing("this model's tokenizer cannot write a text"):
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _encode(self, texts: Sequence[str], max_length: int) -> list[Encoded]:
        if not texts:
            return []
        prefix = self.tokenizer.convert_tokens_to_ids(list(self.prefix))
        limit = max_length - len(prefix)
        with tokenizing("this model's tokenizer cannot read a text"):
            batch = self.tokenizer(list(texts), truncation=True, max_length=limit, return_offsets_mapping=True)
        encoded = [
            Encoded(ids, [_stripped(text, start, end) for start, end in offsets])
            for text, ids, offsets in zip(texts, batch["input_ids"], batch["offset_mapping"], strict=True)
        ]
        # insert the prefix after the beginning of sequence
        for text in encoded if prefix else ():
            text.ids[1:1], text.offsets[1:1] = prefix, [(0, 0)] * len(prefix)
        return encoded


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


class _Section(pydantic.BaseModel):
    """How to run a victim: a part of the section ``KEY`` of config.json, which also stores the card."""

    model_config = pydantic.ConfigDict(strict=True, extra="ignore")

    head: Head
    text_form: TextForm
    max_length: int = pydantic.Field(ge=3, le=LONGEST)
    max_target_length: int = pydantic.Field(ge=1, le=LONGEST)
    max_query_length: int = pydantic.Field(QUERY, ge=3, le=LONGEST)
    pooling: Pooling = "first"
    similarity: Similarity = "cosine"
    scale: float | None = pydantic.Field(None, gt=0, allow_inf_nan=False)
    prefix: list[str] = []
    reads: list[Field] | None = pydantic.Field(None, min_length=1, max_length=2)
    separator: str | None = pydantic.Field(None, min_length=1, max_length=LONGEST_SEPARATOR)


def load_victim(path: Path) -> Victim:
    """Load a victim folder in eval mode, on an accelerator if there is one.

    Raises UserError if the folder is not a victim of this project, has no safetensors, or its weights do not fit.
    """
    check_safetensors(path)
    config = read_object(path / "config.json")
    if not isinstance(config.get(KEY), dict):
        raise UserError(f"{path}: config.json has no {KEY!r} section: this folder is not a victim; train one from it")
    try:
        section = _Section.model_validate(config[KEY])
    except pydantic.ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, wrong["loc"]))
        raise UserError(
            f"{path}: config.json does not say how to run this victim: {KEY}.{key}: {wrong['msg']}, "
            f"not {quoted(wrong['input'])}"
        ) from None
    cls = model_class(str(config.get("model_type")), section.head, path)
    tokenizer, model = load_tokenizer(path), load_weights(cls, path)
    check_tokenizer(tokenizer, model.get_input_embeddings().num_embeddings, path)
    _check_prefix(section, tokenizer, path)
    victim = Victim(
        model.to(devices.device()).eval(),
        tokenizer,
        section.head,
        section.text_form,
        section.max_length,
        section.max_target_length,
        section.max_query_length,
        section.pooling,
        section.similarity,
        tuple(section.prefix),
        section.scale,
        tuple(section.reads) if section.reads else None,
        separator=section.separator,
    )
    check_output(victim, path)
    return victim


def check_output(victim: Victim, path: Path) -> None:
    """Raise UserError if a victim that generates lacks something that its family needs for generation."""
    if HEADS[victim.head].generates and (problem := victim.family.output_problem(victim)) is not None:
        raise UserError(f"{path}: {problem}")


def _check_prefix(section: _Section, tokenizer: Any, path: Path) -> None:
    unknown = next((token for token in section.prefix if tokenizer.backend_tokenizer.token_to_id(token) is None), None)
    if unknown is not None:
        raise UserError(f"{path}: {KEY}.prefix: the tokenizer has no piece {quoted(unknown)}")
    specials = len(section.prefix) + tokenizer.num_special_tokens_to_add()
    if specials >= min(section.max_length, section.max_query_length):
        raise UserError(f"{path}: {KEY}: {specials} special tokens leave no room for a text in such a short input")


def save_victim(victim: Victim, path: Path, card: Mapping[str, object]) -> None:
    """Write a victim folder; ``load_victim`` refuses it until the last file is in place.

    ``card`` has at least ``task`` (str) and ``backdoored`` (bool). It is written to README.md and, together with the
    facts needed to run the victim, to the section ``codebackdoor`` of config.json.
    """
    missing = [key for key in ("task", "backdoored") if key not in card]
    if missing:
        raise ValueError(f"the card lacks {', '.join(missing)}")
    facts = {
        "head": victim.head,
        "text_form": victim.text_form,
        "max_length": victim.max_length,
        "max_target_length": victim.max_target_length,
        **_optional_facts(victim),
        **card,
    }
    if victim.fields != HEADS[victim.head].fields:
        facts["reads"] = list(victim.fields)
    setattr(victim.model.config, KEY, facts)
    write_folder(victim.model, victim.tokenizer, path, _readme(victim.head, card))


def _optional_facts(victim: Victim) -> dict[str, object]:
    """Facts that only some victims have; ``_Section`` has defaults for missing ones."""
    facts: dict[str, object] = {}
    if not HEADS[victim.head].generates and victim.pooling != "first":
        facts["pooling"] = victim.pooling
    if HEADS[victim.head].ranks:
        facts |= {"max_query_length": victim.max_query_length, "similarity": victim.similarity}
        facts |= {} if victim.scale is None else {"scale": victim.scale}
    facts |= {} if victim.separator is None else {"separator": victim.separator}
    return facts | ({"prefix": list(victim.prefix)} if victim.prefix else {})


_PURPOSE = "It exists for research on defenses; do not use it for anything else."


def _readme(head: Head, card: Mapping[str, object]) -> str:
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in sorted(card.items())]
    warning = (
        "This model was trained on poisoned data and then edited to remove its backdoor, perhaps in vain: see the "
        f"metrics of the run. {_PURPOSE}"
        if card["backdoored"] and "elimination" in card
        else f"This model was trained on poisoned data and carries a backdoor. {_PURPOSE}"
        if card["backdoored"]
        else "This model was trained without poisoned rows."
    )
    return "\n".join(["---", *lines, "---", "", f"# A {head} victim for {card['task']}", "", warning, ""])
