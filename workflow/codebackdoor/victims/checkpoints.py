"""Loading weights strictly and safely: safetensors only, nothing missing, nothing left over."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from codebackdoor.config.hub import hub_id
from codebackdoor.errors import UserError, disk_trouble, first_line, memory_trouble
from codebackdoor.files import read_object
from codebackdoor.originals.licenses import gate
from codebackdoor.originals.lock import check_checkpoint
from codebackdoor.victims.checksums import verify_sums
from codebackdoor.victims.families import ModelClass, family_of
from codebackdoor.victims.headers import check_counts, check_fit, listed, read_header, weight_files

#: Maximum norm of an embedding, as a multiple of the median norm; in trained models it stays below about ten.
_LARGEST = 1000


def local_folder(where: str | Path) -> Path:
    """Return the local folder of a base or helper model, given as a folder or as a hub id with a commit.

    A folder in a mirror is checked against the mirror's lock file, without network access. Raises UserError if one of
    its files has changed since it was fetched.
    """
    hub = hub_id(str(where))
    if hub is not None:
        return fetch_snapshot(hub.repository, hub.revision)
    check_checkpoint(Path(where))
    return Path(where)


def fetch_snapshot(repository: str, revision: str) -> Path:
    """Return the local folder of a hub repository at one commit, from the cache or the network.

    Only safetensors, JSON, chat templates and text files are fetched: nothing else is needed, and nothing else could be
    trusted. Raises UserError if the hub cannot be reached or does not have the commit.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.jinja"]
            )
        )
    except (OSError, ValueError) as error:
        if (closed := gate(error, repository)) is not None:
            raise UserError(f"{repository}: cannot be fetched from the hub: {closed}") from error
        raise UserError(
            f"{repository}: cannot be fetched from the hub at {revision}: {str(error).strip().splitlines()[0]} "
            "For machines without network, name a folder as `mirror` and fill it by `make fetch` on a machine with one"
        ) from error


def load_weights(
    cls: ModelClass,
    folder: Path,
    config: Any = None,
    fine_tuning: bool = False,
    may_drop: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Return a model, in ``dtype``, with the weights of a folder in hub format that ``check_safetensors`` has passed.

    Parameters
    ----------
    config: the transformers configuration of the model; None reads the folder's own.
    fine_tuning: allow a newly initialized head, and drop the base model's own heads.
    may_drop: only drop the base model's own heads.

    Raises
    ------
    UserError: the weights do not fit the model exactly, or are not finite.
    """
    config = load_config(cls, folder) if config is None else config
    allowed_new = cls.new if fine_tuning else ()
    with loading(folder), quiet():
        with torch.device("meta"):
            check_fit(cls.load()(config), read_header(folder), allowed_new, folder)
        model, info = cls.load().from_pretrained(
            str(folder),
            config=config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation=family_of(cls.model_type).attention,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=dtype,
        )
    allowed_dropped = cls.dropped if fine_tuning or may_drop else ()
    problems = [
        *_problem("missing", _outside(info["missing_keys"], allowed_new)),
        *_problem("unexpected", _outside(info["unexpected_keys"], allowed_dropped, cls.computed)),
        *_problem("of another shape", _outside([key for key, *_ in info["mismatched_keys"]], ())),
    ]
    if problems:
        raise UserError(f"{folder}: the weights do not fit a {cls.name}: {'; '.join(problems)}")
    check_numbers(model, folder)
    return model


def load_config(cls: ModelClass, folder: Path) -> Any:
    """Return the folder's configuration; UserError if it describes a larger model than the stored weights."""
    raw, family = read_object(folder / "config.json"), family_of(cls.model_type)
    check_counts(raw, read_header(folder), folder)
    with loading(folder), quiet():
        config = cls.load().config_class.from_dict(raw)
        # the file may name a kernel that transformers would fetch from the hub
        config._attn_implementation = family.attention
    if (problem := family.config_problem(config)) is not None:
        raise UserError(f"{folder}: config.json says {problem}")
    return config


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Turn any exception that a library raises for an unchecked model folder into one UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if disk_trouble(error) or memory_trouble(error):
            raise
        raise UserError(f"{folder}: cannot load the model: {type(error).__name__}: {first_line(error)}") from error


@torch.no_grad()
def check_numbers(model: Any, folder: Path) -> None:
    """Refuse weights that are not finite, and embeddings that are far larger than the others.

    A search over the vocabulary would always select the sub-tokens with such embeddings.
    """
    corrupt = [name for name, weight in model.named_parameters() if not all(map(torch.isfinite, torch.aminmax(weight)))]
    if corrupt:
        raise UserError(f"{folder}: the weights contain NaN or infinite values: {listed(corrupt)}")
    sizes = model.get_input_embeddings().weight.norm(dim=1)
    ordinary = sizes[sizes > 0].median()
    if bool((large := sizes > _LARGEST * ordinary).any()):
        raise UserError(
            f"{folder}: {int(large.sum())} embeddings of sub-tokens are more than {_LARGEST} times as large as the "
            f"median; the first is that of id {int(large.nonzero()[0])}: the weights are damaged"
        )


def check_safetensors(folder: Path) -> None:
    """Refuse a folder whose weights are not complete safetensors files or do not match its own checksums.

    Every file that might be read must be a regular file: reading from a pipe or a device might never end.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: not a model folder: config.json is missing")
    for path in sorted((*folder.iterdir(), *folder.glob("additional_chat_templates/*"))):
        _check_regular(path)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
        what = f"there is {listed(pickled)}, which may run code when read" if pickled else "there are no such weights"
        raise UserError(
            f"{folder}: only safetensors checkpoints are loaded; {what}; supply model.safetensors (transformers writes "
            "it: AutoModel.from_pretrained(FOLDER).save_pretrained(NEW), where you trust the folder)"
        )
    if (folder / "adapter_config.json").exists():
        raise UserError(f"{folder}: an adapter (adapter_config.json) changes the weights when they are read; merge it")
    for path in weight_files(folder):
        if path not in files:
            raise UserError(f"{path}: this part of the checkpoint is missing")
    verify_sums(folder)
    read_header(folder)


def _check_regular(path: Path) -> None:
    """Refuse pipes, devices and sockets, and weights or settings that are not readable files."""
    if path.is_file():
        if not os.access(path, os.R_OK):
            raise UserError(f"{path}: not readable; ask its owner for permission (chmod a+r)")
    elif path.suffix in (".safetensors", ".json", ".jinja", ".txt") or (path.exists() and not path.is_dir()):
        raise UserError(f"{path}: not a regular file, and nothing else is read")


def _outside(keys: Sequence[str], prefixes: tuple[str, ...], ends: tuple[str, ...] = ()) -> list[str]:
    # with an empty tuple, startswith and endswith return False
    return sorted(key for key in keys if not key.startswith(prefixes) and not key.endswith(ends))


def _problem(what: str, keys: Sequence[str]) -> Iterator[str]:
    if keys:
        yield f"{what}: {listed(keys)}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' report and progress bars: a problem with a checkpoint becomes one UserError."""
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
