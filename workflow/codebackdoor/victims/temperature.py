"""A unit for logits that whoever trained or edited a checkpoint cannot choose.

Multiplying the last layer of a classifier by a constant changes no prediction, but every loss and confidence. A defense
that compares either with a threshold would thus leave its verdict to the sender of the checkpoint. A defender's view
therefore measures logits by how much they vary over the defender's own clean samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from codebackdoor.types import Example
from codebackdoor.victims.inference import answers
from codebackdoor.victims.victim import Victim

#: Standard deviation, in nats, that the log-odds between two labels are given over the clean samples.
SPREAD = 2.0


def spread(logits: Tensor) -> float:
    """Root mean square, over all pairs of labels, of the standard deviation of their log-odds: of logits [N, C]."""
    centered = logits.double() - logits.double().mean(dim=1, keepdim=True)
    return float((2 / (logits.shape[1] - 1) * centered.var(dim=0, correction=0).sum()).sqrt())


def standardized(victim: Victim, samples: Sequence[Example]) -> Victim:
    """The victim, with the temperature at which its log-odds vary by ``SPREAD`` over the samples.

    A victim without logits (retrieval, generation) is returned as it is, and so is one whose logits do not depend on
    the input or are not finite: no temperature gives these a spread.
    """
    if victim.head not in ("classification", "pair") or victim.model.config.num_labels < 2 or not samples:
        return victim
    victim = replace(victim, temperature=1.0)
    measured = spread(answers(victim, [[text.ids for text in texts] for texts in victim.read(samples)]))
    usable = 0.0 < measured < float("inf")
    return replace(victim, temperature=measured / SPREAD) if usable else victim
