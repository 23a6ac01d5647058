"""Pools cover every row once, and none is smaller than asked for."""

from __future__ import annotations

import pytest

from codebackdoor.pools import pools


@pytest.mark.parametrize(
    ("rows", "size", "sizes"),
    [(300, 100, [100] * 3), (250, 100, [125, 125]), (99, 100, [99]), (301, 100, [101, 100, 100]), (0, 5, [])],
)
def test_rows_that_fill_no_pool_are_spread_over_the_others(rows: int, size: int, sizes: list[int]) -> None:
    found = pools(rows, size)
    assert [len(one) for one in found] == sizes
    assert [place for one in found for place in one] == list(range(rows))
