"""Whether one defense is better than another over several scenarios: unpaired as published, and paired as it should be.

EliBadCode (section 5.3.1) compares ASR values by an unpaired Wilcoxon-Mann-Whitney test. But both defenses are tried on
the same victims, so that the values come in pairs, and the signed-rank test (Wilcoxon 1945) is the one that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from statistics import median

import numpy as np
from scipy.stats import beta, mannwhitneyu, rankdata

#: Differences are compared as measured, not with the noise of floating point: ties are ties.
_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Paired:
    """Two-sided exact signed-rank test of differences (other - one).

    ``shift`` is the Hodges-Lehmann estimate of the difference, ``effect`` the rank-biserial correlation of pairs in
    [-1, 1] (Kerby 2014): 1 where every difference is positive. None and 1.0 where all differences are zero.
    """

    n: int
    p: float
    shift: float
    effect: float | None


def unpaired(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p of the Wilcoxon-Mann-Whitney test: exact without ties, else the normal approximation for ties."""
    values = np.round([*one, *other], _DIGITS)
    method = "exact" if len(set(values.tolist())) == len(values) else "asymptotic"
    return float(mannwhitneyu(values[: len(one)], values[len(one) :], alternative="two-sided", method=method).pvalue)


def paired(one: Sequence[float], other: Sequence[float]) -> Paired:
    """Zero differences are left out of the ranks; the exact distribution holds with ties, too."""
    differences = np.round(np.subtract(other, one), _DIGITS)
    shift = median((a + b) / 2 for a, b in combinations_with_replacement(differences.tolist(), 2))
    used = differences[differences != 0]
    if not len(used):
        return Paired(len(differences), 1.0, shift, None)
    # midranks are halves: doubled, they are whole numbers, and so are all sums of them
    ranks = np.round(2 * rankdata(np.abs(used))).astype(int)
    ways = np.ones(1)
    for rank in ranks.tolist():
        longer = np.zeros(len(ways) + rank)
        longer[: len(ways)] += ways
        longer[rank:] += ways
        ways = longer
    above, total = int(ranks[used > 0].sum()), int(ranks.sum())
    tail = ways[: min(above, total - above) + 1].sum() / 2.0 ** len(used)
    return Paired(len(differences), min(1.0, 2 * float(tail)), shift, (2 * above - total) / total)


def holm(values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being several (Holm 1979), in their order."""
    found = [0.0] * len(values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        found[index] = highest
    return found


def share_interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of few trials (Clopper and Pearson 1934); (0, 1) of none."""
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return low, high
