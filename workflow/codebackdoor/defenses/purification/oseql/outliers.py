"""Which of a few numbers are outliers: the three detectors of OSeqL's released code, each for one dimension.

The elliptic envelope is that of scikit-learn with ``support_fraction=1``. The isolation forest has infinitely many
trees: instead of drawing some, the mean depth at which random splits isolate a number is computed exactly, which is
faster and needs no seed. Tests compare both with scikit-learn's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from codebackdoor.defenses.purification.oseql.settings import OSeqLSettings

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: Quantile of the squared distance above which a number does not count for the envelope's center (Rousseeuw and Van
#: Driessen 1999).
_REWEIGHT = float(chi2(1).isf(0.025))


def iqr(values: Floats, fence: float) -> Flags:
    """Numbers more than ``fence`` interquartile ranges below the first or above the third quartile."""
    first, third = np.percentile(values, [25, 75])
    reach = fence * (third - first)
    flags: Flags = (values < first - reach) | (values > third + reach)
    return flags


def elliptic_envelope(values: Floats, contamination: float) -> Flags:
    """The share ``contamination`` of numbers that is farthest from the mean, which leaves out distant numbers.

    If the numbers that are not distant are all equal, the envelope has no width and there are no outliers.
    """
    squares = (values - values.mean()) ** 2
    near = squares < _REWEIGHT * values.var()
    if not near.any() or values[near].var() == 0:
        return np.zeros(len(values), dtype=bool)
    return _lowest(-((values - values[near].mean()) ** 2), contamination)


def isolation_forest(values: Floats, contamination: float) -> Flags:
    """The share ``contamination`` of numbers that random splits isolate first (Liu et al. 2008)."""
    return _lowest(isolation_depths(values), contamination)


def isolation_depths(values: Floats) -> Floats:
    """Mean depth of each of n numbers in a random isolation tree of at most ceil(log2 n) levels on all of them.

    A tree splits an interval at a uniformly random point. A leaf with k numbers adds the mean depth of a search tree
    of k numbers.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    gaps, numbers = np.diff(ordered), np.arange(len(values))
    # by first and last number of an interval
    widths = ordered[None, :] - ordered[:, None]
    leaves = _search_depths(np.maximum(numbers[None, :] - numbers[:, None] + 1, 1))
    depths = np.empty(len(values))
    for number in numbers:
        leaf, width = leaves[: number + 1, number:], widths[: number + 1, number:]
        depth = leaf
        for _ in range(math.ceil(math.log2(max(len(values), 2)))):
            below, above = np.zeros_like(depth), np.zeros_like(depth)
            # a split in a gap below the number leaves the interval from there on, one above it the interval up to there
            below[:-1] = np.cumsum((gaps[:number, None] * depth[1:])[::-1], axis=0)[::-1]
            above[:, 1:] = np.cumsum(gaps[number:] * depth[:, :-1], axis=1)
            depth = np.where(width > 0, 1 + (below + above) / np.where(width > 0, width, 1), leaf)
        depths[order[number]] = depth[0, -1]
    return depths


def _search_depths(sizes: NDArray[np.int64]) -> Floats:
    """Mean depth of an unsuccessful search in a binary search tree of these sizes (Liu et al. 2008, Eq. 1)."""
    sizes = np.maximum(sizes, 1)
    depths = 2 * (np.log(np.maximum(sizes - 1, 1)) + np.euler_gamma) - 2 * (sizes - 1) / sizes
    return np.where(sizes > 2, depths, (sizes == 2).astype(float))


def _lowest(values: Floats, share: float) -> Flags:
    """Values below the ``share`` quantile, which is interpolated: of few values the lowest, unless it is tied."""
    return values < np.percentile(values, 100 * share)


def vote(effects: Floats, flips: Flags, settings: OSeqLSettings) -> tuple[int | None, Mapping[str, int | None]]:
    """The line that at least two detectors name, and the line that each of them names.

    ``effects`` are by how much the confidence in the prediction falls without each line, ``flips`` whether the
    prediction changes. A detector names the outlier with the largest effect, if that one flips the prediction. Once
    two agree, or if no line flips it, the rest are not run.
    """
    votes: dict[str, int | None] = {}
    if not flips.any():
        return None, votes
    detectors: Mapping[str, Callable[[], Flags]] = {
        "iqr": lambda: iqr(effects, settings.fence),
        "elliptic_envelope": lambda: elliptic_envelope(effects, settings.contamination),
        "isolation_forest": lambda: isolation_forest(effects, settings.contamination),
    }
    for name, detect in detectors.items():
        outliers = detect()
        top = int(np.where(outliers, effects, -np.inf).argmax())
        line = top if outliers[top] and flips[top] else None
        if line is not None and line in votes.values():
            return line, {**votes, name: line}
        votes[name] = line
    return None, votes
