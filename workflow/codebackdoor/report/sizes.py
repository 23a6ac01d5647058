"""The size of a study's victims: layers, width and parameters, read from the folders that training wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from codebackdoor.config.model_settings import OWN_BASES
from codebackdoor.config.products import victims
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.study import Study

#: Keys of ``config.json`` for the layers of each stack and for the width, of all model families.
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "num_decoder_layers", "decoder_layers")
_WIDTH = ("hidden_size", "n_embd", "d_model")


@dataclass(frozen=True, slots=True)
class VictimSize:
    """``layers``: the number of layers of each stack; an encoder-decoder has two stacks."""

    layers: tuple[int, ...]
    width: int
    parameters: int

    def __str__(self) -> str:
        millions = self.parameters / 1e6
        digits = 1 if round(millions, 1) < 10 else 0
        return f"{' + '.join(map(str, self.layers))} layers × {self.width}, {millions:.{digits}f} M parameters"


def size(folder: Path) -> VictimSize:
    """The size of the model in a folder in hub format; its weights are not read."""
    config = read_json(folder / "config.json")
    path = folder / "model.safetensors"
    if not path.is_file():
        raise UserError(f"{path}: not made yet; finish the run before its report (make run)")
    with safe_open(path, framework="numpy") as weights:
        parameters = sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    width = next(int(config[key]) for key in _WIDTH if key in config)
    return VictimSize(tuple(int(config[key]) for key in _LAYERS if key in config), width, parameters)


def sentence(study: Study) -> str:
    """A sentence with the sizes of an experiment's victims, for all of its tables and figures."""
    homes = {
        name: home for name, settings in study.settings["datasets"].items() if (home := settings.get("trained_on"))
    }
    folders = victims(study.experiment, study.settings["out"], homes).items()
    kinds = dict.fromkeys(f"{_kind(study.victim_settings(*names))}, {size(folder)}" for names, folder in folders)
    return f"Victims: {'; '.join(kinds)}."


def _kind(settings: Mapping[str, Any]) -> str:
    """The model's class, with its base unless that is this project's main base of the family."""
    name = f"{labels.word(str(settings['architecture']))}-class"
    if settings["base"] not in OWN_BASES:
        return f"{name} ({settings['base']})"
    return f"{name} (base {labels.word(settings['small_base'])})" if settings.get("small_base") else name
