"""How concentrated the suspicion scores of one input are (CodePurify, Eq. 3 and its released code)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from codebackdoor.config.purifications import Normalisation


def entropy(scores: Sequence[float], normalisation: Normalisation) -> float:
    """Entropy of the normalised scores, in nats (``entropy_by_log_n``: a share of the largest possible entropy).

    Scores are not negative. All of them zero means that no element matters more than another: the entropy is that of
    equal scores. One element alone has entropy 0, but nothing that it could stand out from: its share is 1.
    """
    if not scores:
        raise ValueError("no element, no entropy")
    total = sum(scores)
    if normalisation == "softmax":
        top = max(scores)
        weights = [math.exp(score - top) for score in scores]
    else:
        weights = list(scores) if total > 0 else [1.0] * len(scores)
    whole = sum(weights)
    shares = [weight / whole for weight in weights]
    plain = max(-sum(share * math.log(share) for share in shares if share > 0), 0.0)
    if normalisation != "entropy_by_log_n":
        return plain
    return plain / math.log(len(scores)) if len(scores) > 1 else 1.0
