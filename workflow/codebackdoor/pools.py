"""Pools of retrieval: the test rows among which a query's own function is ranked."""

from __future__ import annotations

from itertools import pairwise


def pools(rows: int, size: int) -> list[range]:
    """Split ``rows`` rows, in the order of their file, into pools of at least ``size`` consecutive rows.

    Rows that do not fill another pool are spread over all pools, so that pool sizes differ by at most one row. Fewer
    rows than ``size`` form one pool.
    """
    count = max(rows // size, 1)
    minimum, remainder = divmod(rows, count)
    ends = [pool * minimum + min(pool, remainder) for pool in range(count + 1)]
    return [range(start, end) for start, end in pairwise(ends) if start < end]
