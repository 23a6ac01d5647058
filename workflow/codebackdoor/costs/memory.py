"""Memory that a victim takes: on an accelerator during training, and on the machine that reads and writes it.

Bytes are counted from what the trainer stores (``victims/training.py``, ``victims/optimizers.py``,
``victims/adapters.py``). With w bytes for each of P weights (4 in float32, 2 in bfloat16), a training stores

- AdamW: weights, gradients and two moments, all in the weights' format: 4 w P;
- BAdam: the weights, w P, and for its largest block of B weights a gradient (w) and two moments in float32 (8), for
  weights in bfloat16 also a copy and its gradient in float32 (8): w P + 12 B, or w P + 18 B;
- adapters: the frozen weights and the changed ones of the E adapted entries, w (P + E); for the A weights of the
  adapters, which are in float32, 16 A; for the N weights of a new head gradients and moments, 3 w N.

``checkpoint: best`` adds a copy of the trained weights. Activations of the batches are not included.
"""

from __future__ import annotations

from codebackdoor.config.model_settings import ModelSettings
from codebackdoor.config.recipes import AdapterSettings
from codebackdoor.costs.work import ModelSize

#: Bytes of one parameter in each number format; predictions and defenses read every victim as float32.
BYTES = {"float32": 4, "bfloat16": 2}
#: Megabytes of a job in addition to its model: libraries, data, files.
_REST = 8000


def training_gigabytes(size: ModelSize, recipe: ModelSettings) -> float:
    """Gigabytes of accelerator memory for a training, without the activations of its batches."""
    each = BYTES[recipe.weights]
    if recipe.adapters is not None:
        adapters, entries = adapted(size, recipe.adapters)
        stored = each * (size.parameters + entries) + 16 * adapters + 3 * each * size.new
    elif recipe.optimizer == "badam":
        stored = each * size.parameters + (12 if recipe.weights == "float32" else 18) * size.block
    else:
        stored = 4 * each * size.parameters
    return (stored + _best(size, recipe)) / 1e9


def progress_gigabytes(size: ModelSize, recipe: ModelSettings) -> float:
    """Gigabytes of disk for the state of a training after an epoch: changed weights, and the optimizer's state."""
    each = BYTES[recipe.weights]
    if recipe.adapters is not None:
        state = 12 * adapted(size, recipe.adapters)[0] + 3 * each * size.new
    elif recipe.optimizer == "badam":
        state = each * size.parameters + (8 if recipe.weights == "float32" else 12) * size.block
    else:
        state = 3 * each * size.parameters
    return (state + _best(size, recipe)) / 1e9


def stored_megabytes(size: ModelSize, recipe: ModelSettings) -> float:
    """Megabytes of the weights that are kept after an epoch: adapted matrices and a new head, or all weights."""
    each = BYTES[recipe.weights]
    if recipe.adapters is None:
        return each * size.parameters / 1e6
    return each * (adapted(size, recipe.adapters)[1] + size.new) / 1e6


def adapted(size: ModelSize, settings: AdapterSettings) -> tuple[int, int]:
    """The number of weights of the adapters, and of entries of the matrices that they change."""
    layers = [size.by_name[name] for name in settings.modules if name in size.by_name]
    return settings.rank * sum(layer.sides for layer in layers), sum(layer.entries for layer in layers)


def machine_megabytes(size: ModelSize, weights: str = "float32") -> int:
    """Megabytes of main memory for a job with a model: its weights, and a copy that is kept or written."""
    return round(2 * BYTES[weights] * size.parameters / 1e6) + _REST


def _best(size: ModelSize, recipe: ModelSettings) -> int:
    """Bytes of the copy of the best weights so far, without those that training does not change."""
    if recipe.checkpoint != "best":
        return 0
    each = BYTES[recipe.weights]
    if recipe.adapters is None:
        return each * size.parameters
    return 4 * adapted(size, recipe.adapters)[0] + each * size.new
