"""The correlation of two measurements over victims, within groups of victims that may be compared with each other.

The question of DeCE's finding 3, whether better models are more vulnerable, compares models that were poisoned in the
same way. Both measurements are therefore centered within each group (one attack at one rate on one data set), and
Pearson's r is taken over all victims. The groups share their models, so resampling draws models, not victims (cluster
bootstrap): the number of models decides how wide the interval is.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from codebackdoor.evaluation.intervals import percentiles

DRAWS = 2000
#: With fewer models, the interval says nothing: of two, r is always -1 or 1.
MODELS = 3


@dataclass(frozen=True, slots=True)
class MeasuredVictim:
    """One victim: the group that it is compared in, its model, and both measurements."""

    group: Hashable
    model: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Correlation:
    """Pearson's r with its 95 % interval, and of how many models and victims."""

    value: float
    low: float
    high: float
    models: int
    victims: int


def correlation(victims: Sequence[MeasuredVictim], generator: np.random.Generator) -> Correlation | None:
    """Return the correlation within groups; None if fewer than three models or no differences are left."""
    models = sorted({victim.model for victim in victims})
    value = _within(victims)
    if len(models) < MODELS or value is None:
        return None
    of_model = [[victim for victim in victims if victim.model == model] for model in models]
    drawn = []
    for indices in generator.integers(0, len(models), (DRAWS, len(models))):
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
    # what rounding leaves of equal values
    if min(xx, yy) < 1e-12:
        return None
    return float((centered[:, 0] * centered[:, 1]).sum() / np.sqrt(xx * yy))
