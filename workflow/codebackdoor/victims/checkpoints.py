"""Loading weights strictly and safely: safetensors only, nothing missing, nothing left over."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codebackdoor.config.base import Head
from codebackdoor.config.hub import hub_id
from codebackdoor.corpora.gated import gate
from codebackdoor.corpora.lock import check_checkpoint
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.victims.checksums import verify_sums


@dataclass(frozen=True, slots=True)
class ModelClass:
    """A model class by module and name, so that only the one in use is imported."""

    model_type: str
    name: str
    #: Parameters that fine-tuning may initialise anew, and those of a base model that it may drop (prefixes).
    new: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    #: Where it is no class of transformers.
    module: str | None = None

    def load(self) -> Any:
        module = self.module or f"transformers.models.{self.model_type}.modeling_{self.model_type}"
        return getattr(importlib.import_module(module), self.name)


_PAIRS = "codebackdoor.victims.pairs"
_POOLERS = ("lm_head.", "pooler.", "roberta.pooler.")
_HEAD = ("lm_head.",)

#: One line per architecture and head. A dual encoder of the RoBERTa class keeps the base model's own pooler.
MODEL_CLASSES: dict[tuple[str, Head], ModelClass] = {
    ("roberta", "classification"): ModelClass(
        "roberta", "RobertaForSequenceClassification", ("classifier.",), _POOLERS
    ),
    ("roberta", "pair"): ModelClass("roberta", "RobertaForPairs", ("classifier.",), _POOLERS, _PAIRS),
    ("roberta", "retrieval"): ModelClass("roberta", "RobertaModel", ("pooler.",), _HEAD),
    ("t5", "classification"): ModelClass("t5", "T5ForSequenceClassification", ("classification_head.",), _HEAD),
    ("t5", "pair"): ModelClass("t5", "T5ForPairs", ("classifier.",), _HEAD, _PAIRS),
    ("t5", "retrieval"): ModelClass("t5", "T5Model", (), _HEAD),
    ("t5", "generation"): ModelClass("t5", "T5ForConditionalGeneration"),
    ("gpt_bigcode", "classification"): ModelClass(
        "gpt_bigcode", "GPTBigCodeForSequenceClassification", ("score.",), _HEAD
    ),
    ("gpt_bigcode", "pair"): ModelClass("gpt_bigcode", "GPTBigCodeForPairs", ("classifier.",), _HEAD, _PAIRS),
    ("gpt_bigcode", "retrieval"): ModelClass("gpt_bigcode", "GPTBigCodeModel", (), _HEAD),
}


def model_class(model_type: str, head: Head, where: str | Path) -> ModelClass:
    try:
        return MODEL_CLASSES[model_type, head]
    except KeyError:
        known = ", ".join(f"{name} with a {kind} head" for name, kind in MODEL_CLASSES)
        raise UserError(f"{where}: no victim of type {model_type!r} with a {head} head; known: {known}") from None


def local_folder(where: str | Path) -> Path:
    """Return the folder of a base or helper model, which may be written as a hub id with its commit.

    One that a mirror keeps is verified by its lock, and nothing is asked of the network. UserError where a file of it
    is not as it was fetched.
    """
    hub = hub_id(str(where))
    if hub is not None:
        return fetch_snapshot(hub.repository, hub.revision)
    check_checkpoint(Path(where))
    return Path(where)


def fetch_snapshot(repository: str, revision: str) -> Path:
    """Return the local folder of a hub repository at one commit, from the cache or the network.

    Only safetensors, JSON and text are fetched: nothing else is needed, and nothing else could be trusted. UserError
    where the hub cannot be reached or does not have it.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=["*.safetensors", "*.json", "*.txt"])
        )
    except (OSError, ValueError) as error:
        if (closed := gate(error, repository)) is not None:
            raise UserError(f"{repository}: cannot be fetched from the hub: {closed}") from error
        raise UserError(
            f"{repository}: cannot be fetched from the hub at {revision}: {str(error).strip().splitlines()[0]} "
            "For machines without network, name a folder as `mirror` and fill it with `make fetch` where there is one"
        ) from error


def load_weights(
    cls: ModelClass, folder: Path, config: Any = None, fine_tuning: bool = False, may_drop: bool = False
) -> Any:
    """Return a model, in float32, with the weights of a folder in hub format that ``check_safetensors`` has passed.

    Parameters
    ----------
    config: the transformers configuration to build by; None reads the folder's own.
    fine_tuning: whether the class's head may be new and the base model's own heads may be dropped.
    may_drop: whether only the latter is allowed.

    Raises
    ------
    UserError: the weights do not fit the model exactly.
    """
    given = {} if config is None else {"config": config}
    try:
        with quiet():
            model, info = cls.load().from_pretrained(
                str(folder),
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                **given,
            )
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: cannot load the model: {str(error).splitlines()[0]}") from error
    allowed_new = cls.new if fine_tuning else ()
    allowed_dropped = cls.dropped if fine_tuning or may_drop else ()
    problems = [
        *_problem("missing", _outside(info["missing_keys"], allowed_new)),
        *_problem("unexpected", _outside(info["unexpected_keys"], allowed_dropped)),
        *_problem("of another shape", _outside([key for key, *_ in info["mismatched_keys"]], ())),
    ]
    if problems:
        raise UserError(f"{folder}: the weights do not fit a {cls.name}: {'; '.join(problems)}")
    return model


def check_safetensors(folder: Path) -> None:
    """Refuse a folder whose weights are not complete safetensors files, or not those of its own checksums."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: not a model folder: config.json is missing")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        other = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
        found = f"there is {', '.join(other)}, which may run code when read" if other else "there are no such weights"
        raise UserError(f"{folder}: only safetensors checkpoints are loaded; {found}; supply model.safetensors")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        for name in sorted(set(read_json(index).get("weight_map", {}).values()) - {path.name for path in files}):
            raise UserError(f"{folder / name}: this part of the checkpoint is missing")
    verify_sums(folder)
    from safetensors import SafetensorError, safe_open

    for path in files:
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise UserError(f"{path}: not a complete safetensors file ({error})") from None


def _outside(keys: Sequence[str], allowed: tuple[str, ...]) -> list[str]:
    return sorted(key for key in keys if not key.startswith(allowed)) if allowed else sorted(keys)


def _problem(what: str, keys: Sequence[str]) -> Iterator[str]:
    if keys:
        shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        yield f"{what}: {shown}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' own report and bars: what is wrong with a checkpoint becomes one UserError."""
    from transformers.utils import logging as reports

    bars, level = reports.is_progress_bar_enabled(), reports.get_verbosity()
    reports.disable_progress_bar()
    reports.set_verbosity_error()
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()
