"""The correlation of two measurements over victims, within groups of comparable victims.

DeCE's finding 3 asks whether better models are more vulnerable, which compares models that were poisoned in the same
way. Both measurements are therefore centered within each group (one attack at one rate on one data set), and Pearson's
r is computed over all victims. The groups share their models, so the bootstrap resamples models, not victims (cluster
bootstrap): the width of the interval depends on the number of models.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from codebackdoor.evaluation.intervals import percentiles

MODEL_DRAWS = 2000
#: Minimum number of models: with two, r is always -1 or 1.
MODELS = 3


@dataclass(frozen=True, slots=True)
class MeasuredVictim:
    """One victim: the group within which it is compared, its model, and both measurements."""

    group: Hashable
    model: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Correlation:
    """Pearson's r with its 95% interval, and the numbers of models and victims."""

    value: float
    low: float
    high: float
    models: int
    victims: int


def correlation(victims: Sequence[MeasuredVictim], generator: np.random.Generator) -> Correlation | None:
    """Return the correlation within groups; None with fewer than three models or without any variation."""
    models = sorted({victim.model for victim in victims})
    if len(models) < MODELS:
        return None
    value = _within(victims)
    if value is None:
        return None
    of_model = [[victim for victim in victims if victim.model == model] for model in models]
    drawn = []
    for indices in generator.integers(0, len(models), (MODEL_DRAWS, len(models))):
        resampled = _within([victim for index in indices for victim in of_model[index]])
        if resampled is not None:
            drawn.append(resampled)
    low, high = percentiles(drawn)
    return Correlation(value, low, high, len(models), len(victims))


def _within(victims: Sequence[MeasuredVictim]) -> float | None:
    """Pearson's r of both measurements after subtracting the means of the groups; None if one does not vary."""
    groups: dict[Hashable, list[tuple[float, float]]] = {}
    for victim in victims:
        groups.setdefault(victim.group, []).append((victim.x, victim.y))
    centered = np.concatenate([np.array(pairs) - np.mean(pairs, axis=0) for pairs in groups.values()])
    xx, yy = (centered**2).sum(0)
    # rounding errors of equal values
    if min(xx, yy) < 1e-12:
        return None
    return float((centered[:, 0] * centered[:, 1]).sum() / np.sqrt(xx * yy))
