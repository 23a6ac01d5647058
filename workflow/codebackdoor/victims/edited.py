"""An edited copy of an external checkpoint: unedited files are copied unchanged, except those that could run code."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codebackdoor.errors import printable
from codebackdoor.files import CHECKSUMS, read_json, read_object
from codebackdoor.victims.checkpoints import quiet
from codebackdoor.victims.checksums import write_sums
from codebackdoor.victims.folders import set_permissions
from codebackdoor.victims.headers import INDEX, read_header, weight_files
from codebackdoor.victims.victim import KEY, Victim

#: The tokenizer's files and the terms of use, which are copied.
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
)
_TERMS = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "NOTICE", "NOTICE.txt")
#: JSON files that configure how weights and tokenizers are read.
_SETTINGS = ("config.json", "tokenizer_config.json", "generation_config.json")
#: Keys of those files that make other software fetch or run code, or read the weights differently.
_RUN_KEYS = (
    *("auto_map", "custom_pipelines", "custom_generate", "chat_template", "quantization_config"),
    *("kernel_config", "use_kernels"),
)
_IMPLEMENTATIONS = ("attn_implementation", "_attn_implementation", "experts_implementation")
#: Suffixes of files that other software would run, or load instead of the weights.
_RUN_SUFFIXES = (
    *(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".dill"),
    *(".py", ".pyc", ".so", ".sh", ".jinja", ".h5", ".keras", ".msgpack", ".onnx", ".gguf", ".ot"),
)
#: Files with adapters or templates that other software applies by default.
_RUN_NAMES = ("adapter_config.json", "chat_template.json", "processor_config.json")
#: Number formats that a copy keeps.
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
#: Largest number of files that are examined, and of names that are listed.
_FILES, _LISTED = 10_000, 12


def run_elsewhere(folder: Path) -> tuple[str, ...]:
    """Names of the files and keys that other software would run, or load instead of a checkpoint's weights.

    A scan reads only the safetensors files that `config.json` and the index name.
    """
    names = [
        _name(path, folder) for path in _walk(folder) if path.name in _RUN_NAMES or path.suffix.lower() in _RUN_SUFFIXES
    ]
    weights = weight_files(folder)
    names += [_name(path, folder) for path in sorted(folder.glob("*.safetensors")) if path not in weights]
    for path in sorted(folder.glob("*.json")):
        if path.name in _SETTINGS:
            names += [f"{key} in {path.name}" for key in _run_keys(read_json(path))]
    unique = sorted(set(names))
    return (*unique[:_LISTED], f"{len(unique) - _LISTED} more") if len(unique) > _LISTED else tuple(unique)


def _walk(folder: Path) -> Iterator[Path]:
    """The first ``_FILES`` files below a folder, skipping hidden folders and links to folders."""
    remaining = _FILES
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names)[:remaining]:
            remaining -= 1
            yield Path(parent, name)
        if not remaining:
            return


def _name(path: Path, folder: Path) -> str:
    """A file's name below the folder as text; on disk it may be any bytes."""
    text = os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")
    return printable(text).replace("\n", "\\n")


def _runs(name: str, value: object) -> bool:
    """Whether a key makes other software run code; names of built-in attention implementations have no slash."""
    return name in _RUN_KEYS or (name in _IMPLEMENTATIONS and isinstance(value, str) and "/" in value)


def _run_keys(value: object) -> list[str]:
    """The keys of a configuration and of its nested parts that make other software run code."""
    if not isinstance(value, Mapping):
        return []
    below = [key for name, part in value.items() if name.endswith("_config") for key in _run_keys(part)]
    return sorted({name for name, part in value.items() if _runs(name, part)} | set(below))


def _without_run_keys(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_run_keys(part) if name.endswith("_config") and isinstance(part, Mapping) else part
        for name, part in value.items()
        if not _runs(name, part)
    }


def stored_as(folder: Path) -> torch.dtype | None:
    """The number format of a checkpoint's weights; None if it is mixed or not one that a copy keeps."""
    stored = read_header(folder).values()
    formats = {tensor.dtype for tensor in stored if not tensor.dtype.startswith(("I", "U", "BOOL"))}
    return _DTYPES.get(formats.pop()) if len(formats) == 1 else None


@dataclass(frozen=True, slots=True)
class EditedCopy:
    """An unfinished copy of a checkpoint, which still lacks its weights.

    ``dtype`` is the number format of the weights; ``left_out`` names the files and keys that are not copied.
    """

    folder: Path
    config: Mapping[str, Any]
    dtype: torch.dtype
    was_mixed: bool
    left_out: tuple[str, ...]

    def finish(self, victim: Victim, elimination: Mapping[str, object], readme: str) -> None:
        """Write weights, configuration, README and checksums. The victim's weights are converted in place."""
        weights = self.folder / "weights"
        with quiet():
            victim.model.to(self.dtype).save_pretrained(weights)
        for path in weights.glob("model*.safetensors*"):
            path.rename(self.folder / path.name)
        shutil.rmtree(weights)
        config = self._config(type(victim.model).__name__, elimination)
        if config != read_json(self.folder / "config.json"):
            _write(self.folder / "config.json", config)
        (self.folder / "README.md").write_text(readme, encoding="utf-8")
        write_sums(self.folder)
        set_permissions(self.folder)

    def _config(self, architecture: str, elimination: Mapping[str, object]) -> dict[str, Any]:
        config = _without_run_keys(self.config)
        if config.get("architectures") != [architecture]:
            config["architectures"] = [architecture]
        for key in ("dtype", "torch_dtype") if self.was_mixed else ():
            if key in config:
                config[key] = str(self.dtype).removeprefix("torch.")
        card = config.get(KEY)
        if isinstance(card, Mapping):
            # the card cannot say "backdoored": whether the trigger still works has not been measured
            claim = {"backdoored_before": card["backdoored"]} if "backdoored" in card else {}
            facts = {name: fact for name, fact in card.items() if name != "backdoored"}
            config[KEY] = facts | claim | {"elimination": dict(elimination)}
        return config


def copy_unedited(source: Path, folder: Path) -> EditedCopy:
    """Copy to ``folder`` the files that an edit of ``source`` does not change, except those that could run code."""
    copied = ("config.json", "generation_config.json", *_TOKENIZER, *_TERMS)
    for name in copied:
        path = source / name
        if not path.is_file():
            continue
        settings = read_object(path) if name in _SETTINGS else {}
        if _run_keys(settings):
            _write(folder / name, _without_run_keys(settings))
        else:
            shutil.copyfile(path, folder / name)
    replaced = {*copied, "README.md", CHECKSUMS, INDEX, *(path.name for path in weight_files(source))}
    dropped = {_name(path, source) for path in _walk(source)} - replaced
    dropped |= {name for name in run_elsewhere(source) if " in " in name}
    dtype = stored_as(source)
    config = read_object(source / "config.json")
    return EditedCopy(folder, config, dtype or torch.float32, dtype is None, tuple(sorted(dropped)))


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
