"""Pools cover every row once, and none is smaller than the requested size."""

from __future__ import annotations

import pytest

from codebackdoor.pools import pools


@pytest.mark.parametrize(
    ("rows", "size", "sizes"),
    [(300, 100, [100] * 3), (250, 100, [125, 125]), (99, 100, [99]), (301, 100, [101, 100, 100]), (0, 5, [])],
)
def test_rows_that_fill_no_pool_are_spread_over_the_others(rows: int, size: int, sizes: list[int]) -> None:
    ranges = pools(rows, size)
    assert [len(pool) for pool in ranges] == sizes
    assert [row for pool in ranges for row in pool] == list(range(rows))
