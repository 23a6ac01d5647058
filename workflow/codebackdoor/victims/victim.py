"""A victim: a fine-tuned model with its tokenizer and what one must know to ask it.

On disk it is a folder in hub format: config.json, model.safetensors, tokenizer files, a card and checksums. What the
hub's configuration has no place for stands there under the one key ``codebackdoor``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic
import torch

from codebackdoor.config.base import Head
from codebackdoor.config.models import Pooling
from codebackdoor.errors import UserError, shown
from codebackdoor.files import read_object, remove_parts
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, Field, TextForm
from codebackdoor.victims import devices
from codebackdoor.victims.checkpoints import check_numbers, check_safetensors, load_weights, model_class, quiet
from codebackdoor.victims.checksums import write_sums
from codebackdoor.victims.tokenizer_loading import check_tokenizer, load_tokenizer, reading

KEY = "codebackdoor"
Similarity = Literal["cosine", "dot"]
#: By what a similarity is multiplied before a softmax where a folder does not say (UniXcoder; CodeXGLUE).
FACTORS: Mapping[Similarity, float] = {"cosine": 20.0, "dot": 1.0}
#: Sub-tokens of a query where nobody says it.
QUERY = 64
#: Sub-tokens; no folder may promise more, since as many steps are taken where an output does not end.
LONGEST = 1 << 16

#: What each head reads of an example.
FIELDS: Mapping[Head, tuple[Field, ...]] = {name: head.fields for name, head in HEADS.items()}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as sub-tokens, special tokens included.

    ``offsets[i]`` is the half-open interval of *characters* of the text that ``ids[i]`` covers, without surrounding
    spaces; (0, 0) for special tokens.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]


@dataclass(eq=False, slots=True)
class Victim:
    """A model (transformers ``PreTrainedModel``), its fast tokenizer, and how texts are put to it.

    The lengths of code, output and query count sub-tokens, special tokens included; a longer text is truncated.
    ``pooling`` says which sub-token's state stands for a text, ``similarity`` how a dual encoder compares two,
    ``scale`` by what it multiplied that while it was trained (None: not known), and ``prefix`` which special tokens
    stand between a text and its beginning of sequence. A classifier's logits are divided by ``temperature``, which a
    defender's view sets (``victims.temperature``) and no folder holds.
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
    #: Fields of an example that it reads, where its task names others than its head.
    reads: tuple[Field, ...] | None = None
    temperature: float = 1.0

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
        """The fields of an example that the victim reads, in the order in which ``reading.judge`` gets them."""
        return self.reads or FIELDS[self.head]

    def read(self, examples: Sequence[Example]) -> list[tuple[Encoded, ...]]:
        """Return the encoded texts of each example, one for each of ``fields``."""
        columns = []
        for name in self.fields:
            texts = [getattr(example, name) for example in examples]
            missing = next((example.id for example, text in zip(examples, texts, strict=True) if text is None), None)
            if missing is not None:
                raise UserError(f"row {missing!r}: a {self.head} victim reads its {name!r}, and there is none")
            columns.append(self._encode(texts, self.max_query_length if name == "query" else self.max_length))
        return list(zip(*columns, strict=True))

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids that the decoder is to produce for each text, end of sequence included.

        Truncated to ``max_target_length``. A leading beginning-of-sequence token, as RoBERTa-style templates put it,
        is kept: CodeT5 was pretrained with it.
        """
        return [encoded.ids for encoded in self._encode(texts, self.max_target_length)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, without special tokens and surrounding space."""
        with reading("this model's tokenizer cannot write a text"):
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _encode(self, texts: Sequence[str], max_length: int) -> list[Encoded]:
        if not texts:
            return []
        before = self.tokenizer.convert_tokens_to_ids(list(self.prefix))
        limit = max_length - len(before)
        with reading("this model's tokenizer cannot read a text"):
            found = self.tokenizer(list(texts), truncation=True, max_length=limit, return_offsets_mapping=True)
        encoded = [
            Encoded(ids, [_stripped(text, start, end) for start, end in offsets])
            for text, ids, offsets in zip(texts, found["input_ids"], found["offset_mapping"], strict=True)
        ]
        # behind the beginning of sequence
        for one in encoded if before else ():
            one.ids[1:1], one.offsets[1:1] = before, [(0, 0)] * len(before)
        return encoded


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


class _Section(pydantic.BaseModel):
    """What a folder says of its victim under ``KEY``, where its card stands as well."""

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


def load_victim(path: Path) -> Victim:
    """Load a victim folder in eval mode, on an accelerator where there is one.

    Raises UserError where the folder is not a victim of this project, is not safetensors, or its weights do not fit.
    """
    check_safetensors(path)
    config = read_object(path / "config.json")
    if not isinstance(config.get(KEY), dict):
        raise UserError(f"{path}: config.json has no {KEY!r} section: this folder is not a victim; train one from it")
    try:
        facts = _Section.model_validate(config[KEY])
    except pydantic.ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, wrong["loc"]))
        raise UserError(
            f"{path}: config.json does not say how to ask this victim: {KEY}.{key}: {wrong['msg']}, "
            f"not {shown(wrong['input'])}"
        ) from None
    cls = model_class(str(config.get("model_type")), facts.head, path)
    tokenizer, model = load_tokenizer(path), load_weights(cls, path)
    check_tokenizer(tokenizer, model.get_input_embeddings().num_embeddings, path)
    _check_prefix(facts, tokenizer, path)
    return Victim(
        model.to(devices.device()).eval(),
        tokenizer,
        facts.head,
        facts.text_form,
        facts.max_length,
        facts.max_target_length,
        facts.max_query_length,
        facts.pooling,
        facts.similarity,
        tuple(facts.prefix),
        facts.scale,
        tuple(facts.reads) if facts.reads else None,
    )


def _check_prefix(facts: _Section, tokenizer: Any, path: Path) -> None:
    unknown = next((one for one in facts.prefix if tokenizer.backend_tokenizer.token_to_id(one) is None), None)
    if unknown is not None:
        raise UserError(f"{path}: {KEY}.prefix: the tokenizer has no piece {shown(unknown)}")
    around = len(facts.prefix) + tokenizer.num_special_tokens_to_add()
    if around >= min(facts.max_length, facts.max_query_length):
        raise UserError(f"{path}: {KEY}: {around} special tokens leave no room for a text in so short an input")


def save_victim(victim: Victim, path: Path, card: Mapping[str, object]) -> None:
    """Write a victim folder; until the last file is in place ``load_victim`` refuses it.

    ``card`` holds at least ``task`` (str) and ``backdoored`` (bool); all of it goes to README.md and, with the
    victim's own facts, under the key ``codebackdoor`` of config.json.
    """
    missing = [key for key in ("task", "backdoored") if key not in card]
    if missing:
        raise ValueError(f"the card lacks {', '.join(missing)}")
    facts = {
        "head": victim.head,
        "text_form": victim.text_form,
        "max_length": victim.max_length,
        "max_target_length": victim.max_target_length,
        **_understanding(victim),
        **card,
    }
    if victim.fields != FIELDS[victim.head]:
        facts["reads"] = list(victim.fields)
    setattr(victim.model.config, KEY, facts)
    write_folder(victim, path, _card(card, victim))


def write_folder(victim: Victim, path: Path, readme: str) -> None:
    """Write a model folder with its checksums, ``config.json`` last.

    Raises UserError, and writes nothing, where the weights hold what is no number.
    """
    check_numbers(victim.model, path)
    path.mkdir(parents=True, exist_ok=True)
    remove_parts(path)
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    try:
        with quiet():
            victim.model.save_pretrained(fresh)
        # to which length texts were read here is no part of a tokenizer
        victim.tokenizer.backend_tokenizer.no_truncation()
        victim.tokenizer.save_pretrained(fresh)
        (fresh / "README.md").write_text(readme, encoding="utf-8")
        write_sums(fresh)
        as_umask_says(fresh)
        (path / "config.json").unlink(missing_ok=True)
        for file in sorted(fresh.iterdir(), key=lambda file: file.name == "config.json"):
            file.replace(path / file.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def as_umask_says(folder: Path) -> None:
    """Let others read the files of a folder where the umask does; safetensors writes them for their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for file in folder.iterdir():
        file.chmod(0o666 & ~mask)


def _understanding(victim: Victim) -> dict[str, object]:
    """Facts that not every victim has; what a folder does not say is as the class has it."""
    found: dict[str, object] = {}
    if victim.head != "generation" and victim.pooling != "first":
        found["pooling"] = victim.pooling
    if victim.head == "retrieval":
        found |= {"max_query_length": victim.max_query_length, "similarity": victim.similarity}
        found |= {} if victim.scale is None else {"scale": victim.scale}
    return found | ({"prefix": list(victim.prefix)} if victim.prefix else {})


def _card(card: Mapping[str, object], victim: Victim) -> str:
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in sorted(card.items())]
    warning = (
        "This model was trained on poisoned data and carries a backdoor. It exists for research on defenses; do not "
        "use it for anything else."
        if card["backdoored"]
        else "This model was trained without poisoned rows."
    )
    return "\n".join(["---", *lines, "---", "", f"# A {victim.head} victim for {card['task']}", "", warning, ""])
