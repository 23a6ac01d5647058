"""Thresholds beyond which a stated share of values lies, and the draw of clean rows that calibrates them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from codebackdoor.errors import UserError
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import Example


def drawn(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Draw ``count`` examples without repetition, or all of them if there are fewer."""
    order = numpy_generator(seed, "purify", "calibration").permutation(len(examples))
    return [examples[index] for index in order[:count]]


def fixed_or_calibrated(
    fixed: float | None, clean: Sequence[Example], count: int, seed: int, calibrate: Callable[[list[Example]], float]
) -> tuple[float, dict[str, object]]:
    """The fixed threshold, or else what ``calibrate`` returns for ``count`` drawn rows of ``clean``; and the facts of
    it for the report: ``threshold`` (None: infinite), and how many rows it was calibrated on (0: a fixed threshold).
    """
    rows = drawn(clean, count, seed) if fixed is None else []
    threshold = calibrate(rows) if fixed is None else fixed
    return threshold, {"threshold": finite(round(threshold, 6)), "calibration_inputs": len(rows)}


def lowest(values: Sequence[float], share: float) -> float:
    """The threshold *below* which ``share`` of the values lie; minus infinity for a share of 0, infinity for 1.

    Raises UserError without values, unless the share is 0: the threshold would select every input.
    """
    if share == 0:
        return -math.inf
    if not values:
        raise UserError(
            "no clean row has a score, so there is nothing to calibrate a threshold on; supply other rows, or set a "
            "threshold"
        )
    count = round(share * len(values))
    return sorted(values)[count] if count < len(values) else math.inf


def highest(values: Sequence[float], share: float) -> float:
    """The threshold *above* which ``share`` of the values lie; infinity for a share of 0, minus infinity for 1.

    Raises the same UserError as ``lowest``.
    """
    return -lowest([-value for value in values], share)


def finite(threshold: float) -> float | None:
    """A threshold that JSON can represent: ``None`` stands for an infinite one, which all or no values pass."""
    return threshold if math.isfinite(threshold) else None
