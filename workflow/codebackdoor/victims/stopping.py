"""The control "training stopped early": a checkpoint of the undefended training that matches a defended victim.

It has the same seed, order of rows and learning rates as the undefended victim, and is the epoch that is closest to the
defended victim on clean validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from codebackdoor import files
from codebackdoor.config.recipes import CheckpointSettings
from codebackdoor.config.scenario import EPOCH_WEIGHTS
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.victims.edited import stored_as
from codebackdoor.victims.folders import set_permissions
from codebackdoor.victims.progress import join_tensors, set_weights
from codebackdoor.victims.victim import KEY, load_victim, save_victim

#: The entries of a victim's card that also hold for its checkpoints.
CARD_KEYS = ("task", "backdoored", "attack", "poisoned_rows", "training_rows", "architecture", "objective")


@dataclass(frozen=True, slots=True)
class Stop:
    """The chosen epoch, its value and the defended victim's (``reference``), and whether it is past the latter."""

    epoch: int
    value: float
    reference: float
    past: bool


def stop(settings: CheckpointSettings, victim: Path, like: Path, out: Path) -> None:
    """Write a checkpoint of ``victim``, which must have kept its epochs, as a victim of its own.

    ``like`` is the history of the defended victim, which the checkpoint is to match.
    """
    history, reference = _history(victim / "history.json"), _history(like)
    stopped = load_victim(victim)
    metric = "loss" if settings.equal == "loss" else HEADS[stopped.head].clean_metric
    chosen = choose(history["epochs"], reference["epochs"][reference["kept_epoch"] - 1], metric)
    facts = {"like": settings.like, "equal": metric, "epoch": chosen.epoch, "value": chosen.value}
    facts |= {"reference": chosen.reference, "past": chosen.past}
    dtype = stored_as(victim)
    for parameter in stopped.model.parameters():
        parameter.data = parameter.data.to(dtype or torch.float32)
    set_weights(stopped.model, _weights(victim / EPOCH_WEIGHTS, chosen.epoch, dict(stopped.model.named_parameters())))
    card = files.read_object(victim / "config.json")[KEY]
    save_victim(stopped, out, {key: card[key] for key in CARD_KEYS if key in card} | {"stopped": facts})
    epochs = history["epochs"][: chosen.epoch]
    files.write_json(out / "history.json", history | {"epochs": epochs, "kept_epoch": chosen.epoch, "stopped": facts})


def choose(epochs: Sequence[Mapping[str, Any]], reference: Mapping[str, Any], metric: str) -> Stop:
    """The epoch whose value is closest to the reference's without being past it (a lower loss, or a higher metric).

    Epochs after the first one that is past the reference do not count: training would have stopped there. In a tie, the
    lowest loss decides. If even the first epoch is past the reference, it is chosen: no checkpoint has learned less.
    """
    sign = -1 if metric == "loss" else 1
    value = float(reference[metric])
    first_past = next((index for index, epoch in enumerate(epochs) if sign * (epoch[metric] - value) > 0), len(epochs))
    if first_past == 0:
        return Stop(1, float(epochs[0][metric]), value, past=True)
    best = max(epochs[:first_past], key=lambda epoch: (sign * epoch[metric], -epoch["loss"]))
    return Stop(int(best["epoch"]), float(best[metric]), value, past=False)


def collect_epochs(folder: Path, epochs: int, out: Path) -> None:
    """Join the weights after every epoch, one file each, into one file, a few megabytes at a time."""
    out.parent.mkdir(parents=True, exist_ok=True)
    join_tensors({f"{epoch}/": folder / f"{epoch}.safetensors" for epoch in range(1, epochs + 1)}, out)
    set_permissions(out.parent)


def _weights(path: Path, epoch: int, parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    prefix = f"{epoch}/"
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            values = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except (FileNotFoundError, SafetensorError) as error:
        raise UserError(f"{path}: not the epochs of a training: train the victim with `keep_epochs: true`") from error
    shapes = {name: value.shape for name, value in parameters.items()}
    if not values or any(shapes.get(name) != value.shape for name, value in values.items()):
        raise UserError(f"{path}: the weights of epoch {epoch} are not those of this victim; train it again")
    return values


def _history(path: Path) -> dict[str, Any]:
    """A training's history with at least one epoch; UserError if the file is damaged."""
    history = files.read_object(path)
    epochs, kept = history.get("epochs"), history.get("kept_epoch")
    if not isinstance(epochs, list) or not isinstance(kept, int) or not 0 < kept <= len(epochs):
        raise UserError(f"{path}: not the history of a training; delete it and run again")
    return history
