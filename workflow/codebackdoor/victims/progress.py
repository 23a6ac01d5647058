"""What a training run keeps after every epoch, so that a killed one goes on where it was.

One safetensors file: weights, optimiser, best weights, and the history. It carries a digest of everything that the
run depends on; a file of any other run is not used.
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
    """The epochs that are finished and the best weights among them (None where the last are kept)."""

    epochs: list[dict[str, Any]]
    best: Weights | None


class Progress:
    """The progress file of one run, in a folder of its own beside the outputs."""

    def __init__(self, folder: Path, digest: str) -> None:
        self._file = folder / "progress.safetensors"
        self._digest = digest

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, state: State) -> None:
        tensors = {f"model/{name}": value for name, value in weights(model).items()}
        for index, values in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{index}/{name}": value for name, value in values.items()}
        tensors |= {f"best/{name}": value for name, value in (state.best or {}).items()}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        save_file(tensors, part, {"digest": self._digest, "epochs": json.dumps(state.epochs)})
        os.replace(part, self._file)  # noqa: PTH105

    def discard(self) -> None:
        """Remove what was kept, and the folder."""
        shutil.rmtree(self._file.parent, ignore_errors=True)

    def load(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> State:
        """Bring model and optimiser to where the run was and return its state; an empty one where there is none."""
        try:
            with safe_open(self._file, framework="pt") as file:
                found = file.metadata() or {}
                if found.get("digest") != self._digest:
                    return State([], None)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (FileNotFoundError, SafetensorError):
            return State([], None)
        set_weights(model, _below(tensors, "model"))
        kept: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimiser").items():
            index, _, key = name.partition("/")
            kept.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({"state": kept, "param_groups": optimiser.state_dict()["param_groups"]})
        return State(json.loads(found["epochs"]), _below(tensors, "best") or None)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> Weights:
    return {name.removeprefix(f"{prefix}/"): value for name, value in tensors.items() if name.startswith(f"{prefix}/")}


def weights(model: nn.Module) -> Weights:
    """The parameters by name, tied ones once."""
    return {name: value.detach() for name, value in model.named_parameters()}


@torch.no_grad()
def set_weights(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])


def digest(model: nn.Module, *facts: object, code: str | None) -> str:
    """A digest of the model's weights, of facts that JSON can hold, and of what computes with them.

    That is the fingerprint of the code, where it is known, and the versions of torch and transformers: what one version
    of them began, another does not end.
    """
    made_by = [code, torch.__version__, transformers.__version__]
    found = hashlib.sha256(json.dumps([facts, made_by], sort_keys=True).encode())
    for name, value in weights(model).items():
        found.update(name.encode())
        found.update(value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
