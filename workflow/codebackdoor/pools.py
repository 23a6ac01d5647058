"""Pools of a search: which test rows a query's own function is ranked among."""

from __future__ import annotations

from itertools import pairwise


def pools(rows: int, size: int) -> list[range]:
    """Cut ``rows`` rows, in the order of their file, into pools of consecutive ones, at least ``size`` in each.

    What does not fill another pool is spread over all of them, so that every row is in one and no two pools differ by
    more than one row. Fewer rows than ``size`` are one pool.
    """
    count = max(rows // size, 1)
    least, more = divmod(rows, count)
    ends = [place * least + min(place, more) for place in range(count + 1)]
    return [range(start, end) for start, end in pairwise(ends) if start < end]
