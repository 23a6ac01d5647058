"""A scale of logits that the author of a checkpoint cannot choose.

Multiplying the last layer of a classifier by a constant changes every loss and confidence but no prediction. The author
of a checkpoint could thus decide the verdict of a defense that compares losses or confidences with a threshold. A
defender's view therefore scales logits by how much they vary over the defender's own clean samples.
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
#: Minimum variation of log-odds, relative to their size. Without it, a victim whose output is nearly constant would be
#: scaled to certainty, and its loss would be 0, which float32 returns for log-odds beyond 17 nats. This minimum limits
#: them to 8 nats (SPREAD / LEAST). For a victim that has learned its task, the ratio is about 1.
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

    A victim without class logits (retrieval, generation) is returned unchanged. So is one whose logits are all equal or
    not finite, because no temperature helps.
    """
    if not HEADS[victim.head].predicts_label or victim.model.config.num_labels < 2 or not samples:
        return victim
    victim = replace(victim, temperature=1.0)
    measured = spread(predict_logits(victim, [[text.ids for text in texts] for texts in victim.tokenize(samples)]))
    usable = 0.0 < measured < float("inf")
    return replace(victim, temperature=measured / SPREAD) if usable else victim
