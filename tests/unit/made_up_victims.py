"""Folders of victims of any size, of which only the configuration and the header of the weights are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from codebackdoor import files
from codebackdoor.config.experiments import Experiment
from codebackdoor.config.products import victims

CONFIGS: dict[str, dict[str, Any]] = {
    "codebert": {"model_type": "roberta", "num_hidden_layers": 2, "hidden_size": 128},
    "unixcoder": {"model_type": "roberta", "num_hidden_layers": 2, "hidden_size": 128},
    "codet5": {"model_type": "t5", "num_layers": 2, "num_decoder_layers": 3, "d_model": 96},
    "starcoder": {"model_type": "gpt_bigcode", "n_layer": 4, "n_embd": 64},
}


def write_victims(config: dict[str, Any]) -> None:
    """One of every model variant of every experiment."""
    for raw in config["experiments"].values():
        for (model, _dataset), folder in victims(Experiment.model_validate(raw), config["out"], {}).items():
            write_victim(folder, CONFIGS[config["models"][model]["architecture"]], 954_882)


def write_victim(folder: Path, config: dict[str, Any], parameters: int) -> None:
    """The weights are a hole in the file: a hundred million of them take no room on the disk."""
    files.write_json(folder / "config.json", config)
    shapes = {"embeddings": [2, 100], "head": [parameters - 200]}
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
