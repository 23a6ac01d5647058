"""The label that a victim predicts, the same whichever inputs share a batch."""

from __future__ import annotations

from torch import Tensor

#: Probabilities that differ by less are equal: the last digits of a probability depend on the batch, and more of them
#: the larger the logits are.
TIE = 1e-3


def likeliest(probabilities: Tensor) -> Tensor:
    """The label [N] of probabilities [N, C]: the first one that ties with the most likely one."""
    ties = probabilities >= probabilities.amax(-1, keepdim=True) - TIE
    return ties.to(probabilities.dtype).argmax(-1)
