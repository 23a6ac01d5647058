"""The work that eliminations have in common: fine-tuning on clean samples, and searching for a trigger."""

from __future__ import annotations

import math
from collections.abc import Iterable

from codebackdoor.costs.work import PlannedVictim, Work
from codebackdoor.heads import HEADS

#: Positions that are found without running the victim; all others are chosen by their sensitivity.
_FREE_POSITIONS = {"function_name", "random"}


def fine_tuning(victim: PlannedVictim, epochs: int, all_layers: bool, dropout: bool) -> Work:
    """Fine-tuning on the clean samples, with measurements before and after.

    If only the last layer is trained, its inputs are computed once.
    """
    if not epochs:
        return Work()
    epoch = victim.rows("clean") * victim.forward
    read_once = not (dropout or HEADS[victim.dataset.head].ranks)
    last_layer = 1 if read_once else epochs
    # in float32, at the rate of predictions
    return Work(predicted=(2 + (3 * epochs if all_layers else last_layer)) * epoch)


def search(
    victim: PlannedVictim,
    steps: int,
    samples: int,
    sample_tokens: int | None,
    candidates: float = 0,
) -> Work:
    """A search of ``steps`` steps, each with a gradient on ``samples`` rows and ``candidates`` further rows.

    Every candidate counts as scored on all samples; a search that drops hopeless candidates early needs less. The
    gradient is computed for the embeddings but for no weights, so it costs as much as a second forward pass.
    """
    return Work(predicted=steps * (candidates + 2 * samples) * victim.row(sample_tokens or math.inf))


def positioning(victim: PlannedVictim, positions: Iterable[str], rows: float) -> Work:
    """Choosing the position of a trigger in ``rows``."""
    if _FREE_POSITIONS.issuperset(positions):
        return Work()
    return Work(predicted=rows * (1 + victim.texts.places) * victim.forward)
