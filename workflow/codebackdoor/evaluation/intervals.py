"""95% percentile bootstrap intervals (Efron 1979) of metrics that are functions of sums over test rows.

Every metric depends on the rows only through sums of integers: hits and trials, n-gram matches, lengths. Resampling
rows with replacement therefore means drawing how often each *distinct* row of statistics occurs, from a multinomial
distribution. Pairs (a row with and without its trigger) stay together because they form one row of statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Metric = Callable[[Floats], float | None]

LEVEL = 0.95
DRAWS = 1000
_BLOCK = 2**22


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric in [0, 1] (differences: [-1, 1]) with its interval; None if it is undefined, such as 0 of 0.

    ``n`` is the number of rows in its denominator, 0 if it is undefined.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


class Sample:
    """Statistics of the rows of one test set, shape [N, K], and their resampled sums, shape [draws, K].

    All metrics of one sample share its draws, so that differences between them are paired.
    """

    def __init__(self, names: Sequence[str], rows: NDArray[np.int64], generator: np.random.Generator) -> None:
        self.names = tuple(names)
        self.sums: Floats = rows.sum(axis=0).astype(np.float64)
        self.draws = resample(rows, generator)

    def estimate(self, metric: Callable[[dict[str, float]], float | None], n: int) -> Estimate:
        """Evaluate ``metric`` (of the sums by name) on the sample and on every draw; undefined draws are ignored."""
        value = metric(self._named(self.sums))
        if value is None:
            return Estimate(None, None, None, 0)
        resampled = [metric(self._named(draw)) for draw in self.draws]
        low, high = percentiles([drawn for drawn in resampled if drawn is not None])
        return Estimate(value, low, high, n)

    def _named(self, sums: Floats) -> dict[str, float]:
        return dict(zip(self.names, sums.tolist(), strict=True))


def resample(rows: NDArray[np.int64], generator: np.random.Generator, draws: int = DRAWS) -> Floats:
    """Sums of ``draws`` resamples of ``rows`` [N, K] with replacement; shape [draws, K].

    The sums are integers below 2^53 and thus exact in floating point, so they do not depend on the order of addition.
    """
    if not len(rows):
        return np.zeros((draws, rows.shape[1]))
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    size, weights = int(counts.sum()), distinct.astype(np.float64)
    sums = np.empty((draws, rows.shape[1]))
    step = max(1, _BLOCK // len(distinct))
    for start in range(0, draws, step):
        block = min(step, draws - start)
        sums[start : start + block] = generator.multinomial(size, counts / size, size=block) @ weights
    return sums


def interval_of_mean(values: Sequence[float], generator: np.random.Generator) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of a few values, such as one for each victim."""
    resamples = generator.choice(np.asarray(values, dtype=np.float64), size=(DRAWS, len(values)))
    return percentiles(resamples.mean(axis=1).tolist())


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The interval that contains the middle 95% of ``values``."""
    low, high = np.quantile(np.asarray(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
