"""Loading the tokenizer of a model folder, and refusing one that does not fit the model or this machine.

A ``tokenizer.json`` is a small program: its steps can replace, prepend and repeat text, so a file of a few bytes could
turn a line of code into any number of sub-tokens. How much a text can grow is computed before any text is tokenized.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from codebackdoor.errors import UserError, first_line, is_panic, memory_trouble
from codebackdoor.files import read_object
from codebackdoor.victims.families import family_of
from codebackdoor.victims.tokens import NO_PADDING

#: Limits: growth of a text, number of steps, and special tokens around a text.
#: SentencePiece's own table of characters lets one letter of three bytes become 33.
_GROWTH, _STEPS, _SPECIAL = 100, 64, 16
_NESTED = ("normalizers", "pretokenizers", "processors", "decoders")


def load_tokenizer(folder: Path) -> Any:
    """Return the fast tokenizer of a model folder; a tokenizer.json is loaded without a model-specific class.

    Special tokens that the folder does not name default to those of the model's family, if the vocabulary has them.
    Raises UserError if there is no tokenizer, if it has no fast version, or if its steps are refused.
    """
    path = folder / "tokenizer.json"
    if path.exists():
        _check_steps(read_object(path), path)
        from transformers import PreTrainedTokenizerFast as Loader
    else:
        from transformers import AutoTokenizer as Loader
    with _refusing(f"{folder}: cannot load the tokenizer"):
        tokenizer = Loader.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise UserError(f"{folder}: the tokenizer has no fast version, which offsets need; supply tokenizer.json")
    # callers set truncation and pad batches themselves
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    for name, token in family_of(_model_type(folder)).special_tokens.items():
        if getattr(tokenizer, name) is None and tokenizer.backend_tokenizer.token_to_id(token) is not None:
            setattr(tokenizer, name, token)
    return tokenizer


def count_sub_tokens(folder: Path, text: str) -> int:
    """The number of sub-tokens of a text by the folder's ``tokenizer.json``, without special tokens.

    Raises UserError as ``load_tokenizer`` does.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    _check_steps(read_object(path), path)
    with _refusing(f"{folder}: cannot load the tokenizer"):
        return len(Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False).ids)


def _model_type(folder: Path) -> str:
    return str(read_object(folder / "config.json").get("model_type"))


def check_tokenizer(tokenizer: Any, rows: int, folder: Path) -> None:
    """Raise UserError if a tokenizer does not belong to a model with ``rows`` embeddings.

    It may have fewer sub-tokens, but no larger id, and must be able to pad.
    """
    if tokenizer.pad_token_id is None:
        raise UserError(f"{folder}: {NO_PADDING}")
    longest_input(tokenizer, folder)
    with _refusing(f"{folder}: the tokenizer cannot read a text"):
        around = tokenizer.num_special_tokens_to_add()
        if around > _SPECIAL:
            raise UserError(f"{folder}: the tokenizer puts {around} special tokens around a text")
        ids = [tokenizer.pad_token_id, *tokenizer.get_vocab().values(), *tokenizer("")["input_ids"]]
    if max(ids) >= rows:
        raise UserError(
            f"{folder}: the tokenizer has a piece of id {max(ids)}, the model embeds {rows}, from 0: they do not "
            "belong together"
        )


def longest_input(tokenizer: Any, folder: Path) -> int | None:
    """Return the maximum input length, in sub-tokens, according to the tokenizer; None if it does not say."""
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest > 2:
        raise UserError(f"{folder}: tokenizer_config.json: model_max_length {longest!r} is not the length of an input")
    # transformers writes a very large number for "no limit"
    return int(longest) if longest < 10**6 else None


@contextmanager
def tokenizing(message: str) -> Iterator[None]:
    """Turn a panic of the tokenizers library, which is not an ``Exception``, into a UserError with this message."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise UserError(f"{message}: {first_line(error)}") from error


@contextmanager
def _refusing(message: str) -> Iterator[None]:
    """Turn any exception that the library raises for an external file into one UserError."""
    try:
        with tokenizing(message):
            yield
    except UserError:
        raise
    except Exception as error:  # the library raises nothing narrower
        if memory_trouble(error):
            raise
        raise UserError(f"{message}: {first_line(error)}") from error


def _check_steps(content: Mapping[str, Any], path: Path) -> None:
    """Refuse a ``tokenizer.json`` that lets a text grow too much, drops it, or splits it randomly."""
    steps = {
        part: list(_flat(content.get(part), path))
        for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    }
    if sum(map(len, steps.values())) > _STEPS:
        raise UserError(f"{path}: it applies more than {_STEPS} steps to a text")
    for parts in (("normalizer", "pre_tokenizer"), ("decoder",)):
        if prod(_growth(step, path) for part in parts for step in steps[part]) > _GROWTH:
            raise UserError(f"{path}: a text may grow more than {_GROWTH} times ({' and '.join(parts)})")
    templates = [step for step in steps["post_processor"] if step.get("type") == "TemplateProcessing"]
    if any(_copies(template) != 1 for template in templates):
        raise UserError(f"{path}: the post_processor does not put each text once between its special tokens")
    model = content.get("model")
    if isinstance(model, Mapping):
        if model.get("dropout"):
            raise UserError(f"{path}: the tokenizer splits a text randomly (dropout {model['dropout']!r})")
        for key in ("continuing_subword_prefix", "end_of_word_suffix"):
            if len(str(model.get(key))) > _GROWTH:
                raise UserError(f"{path}: the tokenizer's {key} has more than {_GROWTH} characters")


def _flat(part: Any, path: Path) -> Iterator[Mapping[str, Any]]:
    """The steps of a part of the tokenizer, with nested sequences flattened."""
    waiting = [part]
    while waiting:
        step = waiting.pop()
        if not isinstance(step, Mapping):
            if step is not None:
                raise UserError(f"{path}: not a tokenizer")
            continue
        nested = next((step[key] for key in _NESTED if isinstance(step.get(key), list)), None)
        if nested is None:
            yield step
        else:
            waiting += reversed(nested)


def _growth(step: Mapping[str, Any], path: Path) -> int:
    """The maximum factor by which a step lengthens a text; UserError if that cannot be told."""
    match step.get("type"):
        case "Replace":
            return max(1, len(str(step.get("content"))))
        case "Prepend":
            return 1 + len(str(step.get("prepend")))
        case "ByteLevel":
            # a byte outside printable ASCII becomes a character of two bytes
            return 2
        case "Precompiled":
            return _longest_entry(str(step.get("precompiled_charsmap") or ""), path)
        case _:
            return 1


def _longest_entry(table: str, path: Path) -> int:
    """Bytes of the longest replacement in SentencePiece's table of characters; UserError if it cannot be decoded."""
    if not table:
        return 1
    message = f"{path}: the normalizer's precompiled_charsmap cannot be decoded; save the tokenizer again"
    try:
        # strict, since the library may decode what a tolerant decoder skips
        content = base64.b64decode(table, validate=True)
    except ValueError as error:
        raise UserError(f"{message} ({first_line(error)})") from error
    # layout: size of a search tree, the tree, then the texts, each terminated by a zero byte
    start = 4 + int.from_bytes(content[:4], "little")
    if start > len(content):
        raise UserError(f"{message} (it ends within its search tree)")
    return max(1, *map(len, content[start:].split(b"\0")))


def _copies(template: Mapping[str, Any]) -> int:
    """How often a template contains the text."""
    pieces = template.get("single")
    return sum("Sequence" in piece for piece in pieces) if isinstance(pieces, list) else 0
