"""The state of a training run after every epoch, from which a killed run resumes.

It is the minimum from which the run continues exactly: the weights that training changes, in their own format, and the
optimizer's moments (for BAdam, those of the active block). Each epoch writes only the weights that it changed, to its
own file; a file is removed once all of its weights have changed again. Frozen weights come from the base model.

Every file contains a digest of everything that the run depends on; files of other runs are ignored, with a warning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from codebackdoor.errors import first_line

log = logging.getLogger(__name__)

Weights = dict[str, Tensor]
#: Bytes of an element, by safetensors' names of the types that weights have.
ELEMENTS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
#: Number of bytes copied at once.
PIECE = 1 << 22


@dataclass(slots=True)
class State:
    """The finished epochs, the best weights so far (None if the last weights are kept), and the number of parts in
    which a batch is computed (more than 1 once memory ran out)."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    best: Weights | None = None
    batch_parts: int = 1


@dataclass(frozen=True, slots=True)
class Saved:
    """The state of a run, the weights that it changed, and the optimizer's state."""

    state: State
    weights: Weights
    optimizer: Weights


class _UnusableError(Exception):
    """Progress files that no run can resume from, or that belong to another run."""


class Progress:
    """The progress files of one run, in their own folder next to the outputs."""

    def __init__(self, folder: Path, digest: str) -> None:
        self._folder, self._digest = folder, digest
        self._file = folder / "progress.safetensors"
        #: Names of the weights in the file of each epoch that is still needed.
        self._parts: dict[int, set[str]] = {}

    def save(self, changed: Weights, optimizer: Weights, state: State) -> None:
        """Add a file with the weights that the last epoch changed, and replace the rest of the state."""
        epoch = len(state.epochs)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write(self._part(epoch), changed, {})
        for number, names in list(self._parts.items()):
            names -= changed.keys()
            if not names or number == epoch:
                del self._parts[number]
        self._parts[epoch] = set(changed)
        tensors = {f"optimizer/{name}": value for name, value in optimizer.items()}
        tensors |= {f"best/{name}": value for name, value in (state.best or {}).items()}
        parts = {str(number): sorted(names) for number, names in self._parts.items()}
        facts = {"epochs": state.epochs, "parts": parts, "batch_parts": state.batch_parts}
        self._write(self._file, tensors, {name: json.dumps(value) for name, value in facts.items()})
        needed = {self._file, *map(self._part, self._parts)}
        for path in self._folder.glob("*.safetensors"):
            if path not in needed:
                path.unlink()

    def discard(self) -> None:
        """Remove the files and their folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def load(self) -> Saved:
        """The state that was saved last; an empty one if nothing was saved by this run.

        Logs a warning if there are files that cannot be used.
        """
        if not self._file.is_file():
            return Saved(State(), {}, {})
        try:
            return self._saved()
        except _UnusableError as error:
            log.warning("%s; the training starts again from its first epoch", error)
            return Saved(State(), {}, {})

    def _saved(self) -> Saved:
        facts, tensors = self._read(self._file)
        weights: Weights = {}
        parts = {int(number): set(names) for number, names in json.loads(facts["parts"]).items()}
        for number, names in parts.items():
            _, changed = self._read(self._part(number))
            if missing := sorted(names - changed.keys()):
                raise _UnusableError(f"{self._part(number)} lacks the weights {missing[0]}")
            weights |= {name: changed[name] for name in names}
        self._parts = parts
        best = _below(tensors, "best") or None
        state = State(json.loads(facts["epochs"]), best, json.loads(facts.get("batch_parts", "1")))
        return Saved(state, weights, _below(tensors, "optimizer"))

    def _part(self, epoch: int) -> Path:
        return self._folder / f"weights.{epoch}.safetensors"

    def _write(self, path: Path, tensors: Weights, facts: Mapping[str, str]) -> None:
        write_tensors(path, tensors, {"digest": self._digest, **facts})

    def _read(self, path: Path) -> tuple[dict[str, str], Weights]:
        """Facts and tensors of a file."""
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                if facts.get("digest") != self._digest:
                    raise _UnusableError(f"{path} belongs to a run with different inputs, settings or software")
                return facts, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (FileNotFoundError, SafetensorError) as error:
            raise _UnusableError(f"{path} cannot be read ({first_line(error)})") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write a safetensors file, complete or not at all."""
    part = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in tensors.items()}, part, dict(facts))
    os.replace(part, path)  # noqa: PTH105


def join_tensors(parts: Mapping[str, Path], out: Path) -> None:
    """Join safetensors files into one, complete or not at all; ``parts`` maps a prefix of names to each file.

    The result is what ``write_tensors`` would write for all tensors, but no file is read into memory as a whole. The
    format: eight bytes for the length of the header, the header (JSON), and the tensors, larger element types first.
    """
    stored = [
        _Stored(prefix + name, path, start, facts)
        for prefix, path in parts.items()
        for name, start, facts in _stored(path)
    ]
    stored.sort(key=lambda tensor: (-ELEMENTS[tensor.facts["dtype"]], tensor.facts["dtype"], tensor.name))
    header: dict[str, Any] = {"__metadata__": {}}
    end = 0
    for tensor in stored:
        header[tensor.name] = {**tensor.facts, "data_offsets": [end, end := end + tensor.size]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = out.with_suffix(".part")
    with part.open("wb") as target:
        target.write(len(text).to_bytes(8, "little") + text)
        for tensor in stored:
            tensor.copy(target)
    os.replace(part, out)  # noqa: PTH105


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor in a file, starting at byte ``start``; ``facts``: its entry in the file's header."""

    name: str
    path: Path
    start: int
    facts: dict[str, Any]

    @property
    def size(self) -> int:
        begin, end = self.facts["data_offsets"]
        return int(end - begin)

    def copy(self, target: BinaryIO) -> None:
        with self.path.open("rb") as source:
            source.seek(self.start)
            rest = self.size
            while rest:
                piece = source.read(min(rest, PIECE))
                if not piece:
                    raise EOFError(f"{self.path} ends within {self.name}")
                target.write(piece)
                rest -= len(piece)


def _stored(path: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield the name of each tensor of a file, the offset of its first byte, and its entry in the header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    for name, facts in header.items():
        if name != "__metadata__":
            yield name, 8 + length + facts["data_offsets"][0], facts


def _below(tensors: Mapping[str, Tensor], prefix: str) -> Weights:
    return {name.removeprefix(f"{prefix}/"): value for name, value in tensors.items() if name.startswith(f"{prefix}/")}


def weights(model: nn.Module, names: Iterable[str] | None = None) -> Weights:
    """The parameters by name, all or only ``names``; tied parameters occur once."""
    values = {name: value.detach() for name, value in model.named_parameters()}
    return values if names is None else {name: values[name] for name in names}


@torch.no_grad()
def set_weights(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Set the named parameters; leave the others unchanged."""
    parameters = dict(model.named_parameters())
    for name, value in values.items():
        parameters[name].copy_(value)


def digest(model: nn.Module, *facts: object, code: str | None) -> str:
    """A digest of the model's weights, of JSON-serializable facts, and of the software.

    The software is the fingerprint of the code, if known, and the versions of torch and transformers, so that no run is
    resumed by another version.
    """
    software = [code, torch.__version__, transformers.__version__]
    digest = hashlib.sha256(json.dumps([facts, software], sort_keys=True).encode())
    for name, value in weights(model).items():
        digest.update(name.encode())
        digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
