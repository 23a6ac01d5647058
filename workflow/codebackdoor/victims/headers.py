"""The headers of a folder's safetensors files: shapes and number formats, without reading any weights.

A configuration of a few bytes can demand any amount of memory, so the model that it describes is compared with the
stored tensors before anything is built.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from codebackdoor.errors import UserError
from codebackdoor.files import read_object

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
#: Keys of config.json for numbers of layers; each layer has its own weights.
_LAYERS = (
    *("num_hidden_layers", "num_layers", "num_encoder_layers", "num_decoder_layers", "n_layer", "n_layers"),
    *("encoder_layers", "decoder_layers", "num_hidden_groups"),
)
#: Keys for numbers and sizes of heads, which models divide by.
_PARTS = (
    *("num_attention_heads", "num_key_value_heads", "num_heads", "n_head", "n_heads", "d_kv", "head_dim"),
    *("encoder_attention_heads", "decoder_attention_heads"),
)
_MOST_LAYERS = 1000
_PLAIN = re.compile(r"[\w.-]{1,100}")
_FLOATS = frozenset(("F64", "F32", "F16", "BF16"))


@dataclass(frozen=True, slots=True)
class Stored:
    """Shape of a stored tensor, and its number format as safetensors names it (F32, BF16, I64)."""

    shape: tuple[int, ...]
    dtype: str


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers reads from the folder, which need not exist.

    Raises UserError if there is neither ``model.safetensors`` nor a well-formed index of its parts.
    """
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if not index.exists():
        raise UserError(f"{folder}: {WEIGHTS} is missing; that is the name under which transformers reads weights")
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"{index}: not an index of weights: `weight_map` must name a file for each tensor")
    for name in sorted(set(names.values())):
        if Path(name).name != name:
            raise UserError(f"{index}: {name!r} is not a file in this folder")
    return [folder / name for name in sorted(set(names.values()))]


def read_header(folder: Path) -> dict[str, Stored]:
    """Return the stored tensors by name; UserError for an incomplete file."""
    stored: dict[str, Stored] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    part = file.get_slice(name)
                    stored[name] = Stored(tuple(part.get_shape()), str(part.get_dtype()))
        except SafetensorError as error:
            raise UserError(f"{path}: not a complete safetensors file ({error})") from None
    return stored


def check_counts(config: Mapping[str, Any], stored: Mapping[str, Stored], folder: Path) -> None:
    """Raise UserError for a ``config.json`` with more labels or layers than the stored weights can contain.

    transformers creates labels and layers one by one, even if nothing is stored for them. Nested configurations are
    checked, too.
    """
    for value in config.values():
        if isinstance(value, Mapping):
            check_counts(value, stored, folder)
    labels = config.get("num_labels")
    largest = max((max(tensor.shape, default=1) for tensor in stored.values()), default=1)
    if isinstance(labels, int) and not 0 <= labels <= largest:
        raise UserError(f"{folder}: config.json says {labels} labels (num_labels), no stored weight is that large")
    for key in _LAYERS:
        layers = config.get(key)
        if isinstance(layers, int) and not 0 <= layers <= min(len(stored), _MOST_LAYERS):
            raise UserError(f"{folder}: config.json says {key}: {layers}, and there are {len(stored)} tensors")
    for key in _PARTS:
        parts = config.get(key)
        if isinstance(parts, int) and parts < 1:
            raise UserError(f"{folder}: config.json says {key}: {parts}; it must be at least 1")


def check_fit(model: Any, stored: Mapping[str, Stored], new: tuple[str, ...], folder: Path) -> None:
    """Raise UserError if a model, built without memory (device ``meta``), does not fit the stored weights.

    Parameters whose names begin with one of ``new`` need not be stored.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if not (new and name.startswith(new))}
    keys = {name: _stored_as(name, stored, model.base_model_prefix) for name in parameters}
    problems = [
        problem
        for name, key in keys.items()
        if key is not None and (problem := _misfit(key, parameters[name], stored[key])) is not None
    ]
    # transformers renames some parameters while loading, so a missing name is an error only if the model is larger than
    # all stored tensors together
    if sum(parameter.numel() for parameter in parameters.values()) > sum(
        prod(tensor.shape) for tensor in stored.values()
    ):
        problems.append(f"missing: {listed([name for name, key in keys.items() if key is None])}")
    if problems:
        details = "; ".join(problems[:8]) + (f" and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise UserError(f"{folder}: the weights do not fit a {type(model).__name__}: {details}")
    needed, memory = 4 * sum(parameter.numel() for parameter in model.parameters()), _memory()
    if needed > memory:
        raise UserError(
            f"{folder}: this model takes {needed / 2**30:.1f} GiB in float32, this machine has {memory / 2**30:.1f}"
        )


def _stored_as(name: str, stored: Mapping[str, Stored], prefix: str) -> str | None:
    """The name under which a parameter is stored; parameters of a body may have or lack the body's prefix."""
    names = (name, name.removeprefix(f"{prefix}."), f"{prefix}.{name}")
    return next((key for key in names if key in stored), None)


def _misfit(key: str, parameter: torch.Tensor, tensor: Stored) -> str | None:
    shape = tuple(parameter.shape)
    if tensor.shape != shape:
        return f"of another shape: {key} ({_sized(tensor.shape)}, config.json says {_sized(shape)})"
    if tensor.dtype not in _FLOATS and not tensor.dtype.startswith("F8_"):
        return f"of another kind: {key} (stored as {tensor.dtype}, which are not floating-point numbers)"
    return None


def listed(names: Sequence[str]) -> str:
    """At most eight names, quoted if they contain misleading characters, since they come from files."""
    text = ", ".join(name if _PLAIN.fullmatch(name) else repr(name) for name in names[:8])
    return text + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _sized(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
