"""How well a score tells triggered inputs from clean ones: AUROC, and true positives at a false-positive rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = Sequence[float] | NDArray[np.float64]


def auroc(triggered: Scores, clean: Scores) -> float | None:
    """Share of the pairs (triggered, clean) in which the triggered input has the higher score; a tie counts half.

    Higher scores are more suspicious. None without triggered or without clean inputs.
    """
    if not len(triggered) or not len(clean):
        return None
    ordered = np.sort(clean)
    below = np.searchsorted(ordered, triggered, "left") + np.searchsorted(ordered, triggered, "right")
    return float(below.sum() / (2 * len(triggered) * len(clean)))


def tpr_at_fpr(triggered: Scores, clean: Scores, fpr: float) -> float | None:
    """Largest share of triggered inputs above a threshold that at most the share ``fpr`` of clean inputs exceeds.

    The threshold is one of the scores, without interpolation. None without triggered or without clean inputs.
    """
    if not len(triggered) or not len(clean):
        return None
    if not 0 <= fpr <= 1:
        raise ValueError(f"a false-positive rate of {fpr}")
    # the small number compensates for rounding errors of the product
    allowed = int(fpr * len(clean) + 1e-9)
    if allowed == len(clean):
        return 1.0
    threshold = np.sort(clean)[::-1][allowed]
    return float((np.asarray(triggered) > threshold).mean())
