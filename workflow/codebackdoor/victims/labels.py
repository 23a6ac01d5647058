"""The label that a victim predicts, which must not depend on the inputs that share its batch."""

from __future__ import annotations

from torch import Tensor

#: Probabilities that differ by less count as equal: their last digits depend on the batch, and the larger the logits,
#: the more digits do.
TIE = 1e-3


def likeliest(probabilities: Tensor) -> Tensor:
    """The most likely label [N] by probabilities [N, C]; the first one in case of a tie."""
    ties = probabilities >= probabilities.amax(-1, keepdim=True) - TIE
    return ties.to(probabilities.dtype).argmax(-1)
