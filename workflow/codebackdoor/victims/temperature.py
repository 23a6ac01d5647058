"""A unit for logits that whoever trained or edited a checkpoint cannot choose.

Multiplying the last layer of a classifier by a constant changes no prediction, but every loss and confidence. A defense
that compares either with a threshold would thus leave its verdict to the sender of the checkpoint. A defender's view
therefore measures logits by how much they vary over the defender's own clean samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from codebackdoor.types import Example
from codebackdoor.victims.inference import answers
from codebackdoor.victims.victim import Victim

#: Standard deviation, in nats, that the log-odds between two labels are given over the clean samples.
SPREAD = 2.0
#: Log-odds that vary by less than this share of their size count as varying by it. A victim that answers nearly alike
#: whatever it reads would be made certain otherwise, and every loss 0: float32 has none below 17 nats, and this share
#: leaves it 8 (SPREAD / LEAST). One that does its task has a share of 1 or so.
LEAST = 0.25


def spread(logits: Tensor) -> float:
    """How much the log-odds between two labels vary: of logits [N, C], in nats, over the N samples.

    The root mean square over all pairs of labels of their standard deviation; at least ``LEAST`` of their root mean
    square itself.
    """
    centered = logits.double() - logits.double().mean(dim=1, keepdim=True)
    pairs = 2 / (logits.shape[1] - 1)
    deviation = (pairs * centered.var(dim=0, correction=0).sum()).sqrt()
    size = (pairs * centered.square().mean(dim=0).sum()).sqrt()
    return float(torch.maximum(deviation, LEAST * size))


def standardized(victim: Victim, samples: Sequence[Example]) -> Victim:
    """The victim, with the temperature at which its log-odds vary by ``SPREAD`` over the samples.

    A victim without logits (retrieval, generation) is returned as it is, and so is one whose logits are all equal or
    not finite: no temperature gives these a spread.
    """
    if victim.head not in ("classification", "pair") or victim.model.config.num_labels < 2 or not samples:
        return victim
    victim = replace(victim, temperature=1.0)
    measured = spread(answers(victim, [[text.ids for text in texts] for texts in victim.read(samples)]))
    usable = 0.0 < measured < float("inf")
    return replace(victim, temperature=measured / SPREAD) if usable else victim
