"""Whether one defense is better than another over several scenarios: unpaired as published, and paired.

EliBadCode (section 5.3.1) compares ASR values with an unpaired Wilcoxon-Mann-Whitney test. But both defenses run on the
same victims, so the values are paired, and the signed-rank test (Wilcoxon 1945) is the appropriate one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from statistics import median

import numpy as np
from scipy.stats import beta, mannwhitneyu, rankdata

#: Differences are rounded to this many digits, so that floating-point noise does not break ties.
_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Paired:
    """Two-sided exact signed-rank test of differences (second - first).

    ``shift`` is the Hodges-Lehmann estimate of the difference, ``effect`` the rank-biserial correlation of pairs in
    [-1, 1] (Kerby 2014): 1 if every difference is positive. If all differences are zero, it is None, and ``p`` is 1.
    """

    n: int
    p: float
    shift: float
    effect: float | None


def unpaired(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of the Wilcoxon-Mann-Whitney test: exact without ties, else the normal approximation for ties."""
    values = np.round([*first, *second], _DIGITS)
    method = "exact" if len(set(values.tolist())) == len(values) else "asymptotic"
    return float(
        mannwhitneyu(values[: len(first)], values[len(first) :], alternative="two-sided", method=method).pvalue
    )


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Test the differences (second - first); zeros are not ranked, and the distribution is exact even with ties."""
    differences = np.round(np.subtract(second, first), _DIGITS)
    shift = median((a + b) / 2 for a, b in combinations_with_replacement(differences.tolist(), 2))
    used = differences[differences != 0]
    if not len(used):
        return Paired(len(differences), 1.0, shift, None)
    # midranks are multiples of one half: doubled, they and their sums are integers
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
    """The p-values adjusted for multiple tests (Holm 1979), in the order of ``values``."""
    adjusted = [0.0] * len(values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = highest
    return adjusted


def share_interval(hits: int, n: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper and Pearson 1934); (0, 1) without any trial."""
    return 1 - upper_bound(n - hits, n, 0.975), upper_bound(hits, n, 0.975)


def upper_bound(hits: int, n: int, level: float = 0.95) -> float:
    """The exact upper bound of a share, which holds with probability ``level`` (Clopper and Pearson 1934)."""
    return float(beta.ppf(level, hits + 1, n - hits)) if hits < n else 1.0
