"""The state of a training run after every epoch, from which a killed run resumes.

One safetensors file: weights, optimizer, best weights, and the history. It contains a digest of everything that the run
depends on; a file of any other run is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Weights = dict[str, Tensor]


@dataclass(slots=True)
class State:
    """The finished epochs and the best weights among them (None if the last weights are kept)."""

    epochs: list[dict[str, Any]]
    best: Weights | None


class Progress:
    """The progress file of one run, in its own folder next to the outputs."""

    def __init__(self, folder: Path, digest: str) -> None:
        self._file = folder / "progress.safetensors"
        self._digest = digest

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
        tensors = {f"model/{name}": value for name, value in weights(model).items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items()}
        tensors |= {f"best/{name}": value for name, value in (state.best or {}).items()}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        save_file(tensors, part, {"digest": self._digest, "epochs": json.dumps(state.epochs)})
        os.replace(part, self._file)  # noqa: PTH105

    def discard(self) -> None:
        """Remove the file and its folder."""
        shutil.rmtree(self._file.parent, ignore_errors=True)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
        """Restore model and optimizer and return the state of the run; an empty one if there is no file."""
        try:
            with safe_open(self._file, framework="pt") as file:
                facts = file.metadata() or {}
                if facts.get("digest") != self._digest:
                    return State([], None)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (FileNotFoundError, SafetensorError):
            return State([], None)
        set_weights(model, _below(tensors, "model"))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimizer").items():
            index, _, key = name.partition("/")
            moments.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        return State(json.loads(facts["epochs"]), _below(tensors, "best") or None)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> Weights:
    return {name.removeprefix(f"{prefix}/"): value for name, value in tensors.items() if name.startswith(f"{prefix}/")}


def weights(model: nn.Module) -> Weights:
    """The parameters by name; tied ones occur once."""
    return {name: value.detach() for name, value in model.named_parameters()}


@torch.no_grad()
def set_weights(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])


def digest(model: nn.Module, *facts: object, code: str | None) -> str:
    """A digest of the model's weights, of facts that JSON can express, and of the software.

    The software is the fingerprint of the code, if known, and the versions of torch and transformers: a run is not
    resumed by another version.
    """
    software = [code, torch.__version__, transformers.__version__]
    digest = hashlib.sha256(json.dumps([facts, software], sort_keys=True).encode())
    for name, value in weights(model).items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
