"""Principal components of last hidden states with and without the trigger (DeCE section 3.2, Figure 3).

The same test rows, with and without the trigger, are given to three models: the base model before fine-tuning, the
victim trained on clean rows, and the victim trained on poisoned rows. Each model has its own components, since the
dimensions of two trained models need not correspond; the vectors are those of ``representations``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codebackdoor import files
from codebackdoor.config.scenario import STATES
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, label_of
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.representations import representations
from codebackdoor.victims.victim import load_victim

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.models import AnyModel

#: Number of rows in the figure, each with and without the trigger, and number of decimals of their coordinates.
ROWS, DIGITS = 300, 6
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Projection:
    """The first two principal components: coordinates [N, 2], and the share of the variance that each explains."""

    points: Floats
    explained: Floats


def project(vectors: Floats) -> Projection:
    """Principal component analysis; signs are such that each component's largest coefficient is positive."""
    centered = vectors - vectors.mean(0)
    _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    first = directions[:2]
    signs = np.sign(first[np.arange(len(first)), np.abs(first).argmax(1)])
    variances = sizes**2
    total = variances.sum()
    explained = variances[:2] / total if total > 0 else np.zeros(len(first))
    return Projection(centered @ (first * signs[:, None]).T, explained)


def between(groups: Sequence[Floats]) -> float:
    """The share of the variance of all vectors that is between the groups (eta squared)."""
    everything = np.concatenate(list(groups))
    mean = everything.mean(0)
    total = float(((everything - mean) ** 2).sum())
    among = sum(len(group) * float(((group.mean(0) - mean) ** 2).sum()) for group in groups)
    return among / total if total > 0 else 0.0


def states(
    model: AnyModel, dataset: AnyDataset, base: Path, benign: Path, poisoned: Path, triggered: Path, clean: Path,
    out: Path, seed: int,
) -> None:  # fmt: skip
    """Write ``out/states.json`` on the first ``ROWS`` rows of the test set that take the trigger.

    ``benign`` and ``poisoned`` are victims of ``base``, ``triggered`` and ``clean`` the test set with and without the
    trigger. Raises UserError if fewer than three rows have the trigger.
    """
    sources = {example.id: example for example in files.read_examples(clean)}
    rows = [row for row in files.read_poisoned(triggered) if row.status == "injected"][:ROWS]
    if len(rows) < 3:
        raise UserError(f"{triggered}: {len(rows)} rows have the trigger; principal components need three or more")
    inputs = [sources[row.source_id] for row in rows], [row.example for row in rows]
    head = dataset.head
    labels = None if not HEADS[head].predicts_label else max(2, *(label_of(row) + 1 for row in inputs[0]))
    untuned = new_victim(model, base, head, dataset.text_form, labels, seed, dataset.reads)
    models = {"untuned": untuned, "clean": load_victim(benign), "poisoned": load_victim(poisoned)}
    content = {name: _described(victim, *inputs) for name, victim in models.items()}
    files.write_json(out / STATES, {"rows": len(rows), "models": content})


def _described(victim: Any, without: Sequence[Example], with_trigger: Sequence[Example]) -> dict[str, Any]:
    victim.model.eval()
    vectors = representations(victim, [*without, *with_trigger])
    groups = vectors[: len(without)], vectors[len(without) :]
    projection = project(vectors)
    points = projection.points.round(DIGITS).tolist()
    return {
        "explained": projection.explained.round(DIGITS).tolist(),
        "between": round(between(groups), DIGITS),
        "without": points[: len(without)],
        "with": points[len(without) :],
    }
