"""Thresholds beyond which a stated share of values lies."""

from __future__ import annotations

import math

from codebackdoor.defenses import thresholds


def test_thresholds_let_the_stated_share_pass() -> None:
    values = [value / 100 for value in range(100)]
    assert sum(value < thresholds.lowest(values, 0.05) for value in values) == 5
    assert sum(value > thresholds.highest(values, 0.05) for value in values) == 5
    assert thresholds.lowest(values, 0) == -math.inf
    assert thresholds.highest(values, 0) == math.inf
    assert thresholds.lowest(values, 1) == math.inf
    assert thresholds.finite(thresholds.lowest(values, 1)) is None
