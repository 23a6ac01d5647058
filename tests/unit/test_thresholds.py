"""Thresholds beyond which a stated share of values lies."""

from __future__ import annotations

import math

import pytest

from codebackdoor.defenses import thresholds
from codebackdoor.errors import UserError


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
