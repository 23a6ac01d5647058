"""A scale of logits that the author of a checkpoint cannot choose.

Multiplying the last layer of a classifier by a constant changes no prediction, but every loss and confidence. The
author of a checkpoint could thus decide the verdict of a defense that compares either with a threshold. A defender's
view therefore scales logits by how much they vary over the defender's own clean samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from codebackdoor.heads import HEADS
from codebackdoor.types import Example
from codebackdoor.victims.inference import predict_logits
from codebackdoor.victims.victim import Victim

#: Standard deviation of the scaled log-odds between two labels over the clean samples, in nats.
SPREAD = 2.0
#: Smallest variation of log-odds, as a share of their size. Without it, a victim that answers nearly the same for every
#: input would become certain, with a loss of 0, since float32 has no loss for log-odds beyond 17 nats; this share
#: limits them to 8 (SPREAD / LEAST). A victim that has learned its task has a share of about 1.
LEAST = 0.25


def spread(logits: Tensor) -> float:
    """How much the log-odds between two labels vary over the N samples of logits [N, C], in nats.

    The root mean square, over all pairs of labels, of their standard deviation; at least ``LEAST`` of the root mean
    square of the log-odds.
    """
    centered = logits.double() - logits.double().mean(dim=1, keepdim=True)
    pairs = 2 / (logits.shape[1] - 1)
    deviation = (pairs * centered.var(dim=0, correction=0).sum()).sqrt()
    size = (pairs * centered.square().mean(dim=0).sum()).sqrt()
    return float(torch.maximum(deviation, LEAST * size))


def standardized(victim: Victim, samples: Sequence[Example]) -> Victim:
    """The victim with the temperature at which its log-odds vary by ``SPREAD`` over the samples.

    A victim without logits (retrieval, generation) is returned unchanged, and so is one whose logits are all equal or
    not finite, which no temperature can scale.
    """
    if not HEADS[victim.head].predicts_label or victim.model.config.num_labels < 2 or not samples:
        return victim
    victim = replace(victim, temperature=1.0)
    measured = spread(predict_logits(victim, [[text.ids for text in texts] for texts in victim.tokenize(samples)]))
    usable = 0.0 < measured < float("inf")
    return replace(victim, temperature=measured / SPREAD) if usable else victim
