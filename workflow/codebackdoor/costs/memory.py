"""Memory that a victim takes: of an accelerator while it is trained, and of the machine that reads and writes it."""

from __future__ import annotations

from codebackdoor.costs.work import ModelSize

#: Bytes of one parameter in training: the weight, its gradient and AdamW's two moments, all in float32.
TRAINED = 16
#: Bytes of one parameter as it is stored and loaded, in float32.
STORED = 4
#: Megabytes of a job besides its model: libraries, data, files.
_REST = 8000


def training_gigabytes(size: ModelSize) -> float:
    """Gigabytes of an accelerator for a training, without the states of its batches."""
    return TRAINED * size.parameters / 1e9


def machine_megabytes(size: ModelSize) -> int:
    """Megabytes of the machine for a job with a model: its weights, a copy of them that is kept or written."""
    return round(2 * STORED * size.parameters / 1e6) + _REST
