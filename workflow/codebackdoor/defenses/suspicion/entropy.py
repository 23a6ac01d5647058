"""How concentrated the suspicion scores of one input are (CodePurify, Eq. 3 and its released code)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from codebackdoor.defenses.suspicion.settings import Normalization


def entropy(scores: Sequence[float], normalization: Normalization) -> float:
    """Entropy of the normalized scores, in nats (``entropy_by_log_n``: as a share of the largest possible entropy).

    Scores are not negative. If all of them are zero, no element matters more than another, and the entropy is that of
    equal scores. Raises ValueError for fewer than two scores, since none can stand out.
    """
    if len(scores) < 2:
        raise ValueError("the entropy of fewer than two scores says nothing")
    total = sum(scores)
    if normalization == "softmax":
        top = max(scores)
        weights = [math.exp(score - top) for score in scores]
    else:
        weights = list(scores) if total > 0 else [1.0] * len(scores)
    sum_of_weights = sum(weights)
    shares = [weight / sum_of_weights for weight in weights]
    plain = max(-sum(share * math.log(share) for share in shares if share > 0), 0.0)
    if normalization != "entropy_by_log_n":
        return plain
    return plain / math.log(len(scores))
