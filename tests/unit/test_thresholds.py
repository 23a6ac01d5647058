"""Thresholds beyond which a stated share of values lies."""

from __future__ import annotations

import math

import pytest

from codebackdoor.defenses import thresholds
from codebackdoor.errors import UserError
from codebackdoor.types import Example


def test_thresholds_let_the_stated_share_pass() -> None:
    values = [value / 100 for value in range(100)]
    assert sum(value < thresholds.lowest(values, 0.05) for value in values) == 5
    assert sum(value > thresholds.highest(values, 0.05) for value in values) == 5
    assert thresholds.lowest(values, 0) == -math.inf
    assert thresholds.highest(values, 0) == math.inf
    assert thresholds.lowest(values, 1) == math.inf
    assert thresholds.finite(thresholds.lowest(values, 1)) is None


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_without_scores_there_is_no_threshold(share: float) -> None:
    """An empty calibration would select every input."""
    for threshold in (thresholds.lowest, thresholds.highest):
        with pytest.raises(UserError, match="no clean row has a score"):
            threshold([], share)
    assert thresholds.highest([], 0) == math.inf


def test_the_number_that_a_share_stands_for_is_rounded() -> None:
    # 0.29 x 100 is less than 29 in floating point
    for share, count, expected in ((0.29, 100, 29), (0.07, 20, 1), (0.08, 20, 2)):
        values = [float(value) for value in range(count)]
        assert sum(value < thresholds.lowest(values, share) for value in values) == expected
        assert sum(value > thresholds.highest(values, share) for value in values) == expected


def test_clean_rows_are_drawn_at_random_without_repetition_by_the_seed() -> None:
    rows = [Example(str(number), "python", "pass") for number in range(50)]
    ids = [[row.id for row in thresholds.drawn(rows, 20, seed)] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]
    assert len(set(ids[0])) == 20
    # of the first 20 rows, 8 on average
    assert all(sum(int(id_) < 20 for id_ in drawn) < 16 for drawn in ids)
    assert {row.id for row in thresholds.drawn(rows, 99, 1)} == {row.id for row in rows}
