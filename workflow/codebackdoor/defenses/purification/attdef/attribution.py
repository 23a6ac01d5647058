"""Attribution of a victim's prediction to the sub-tokens of its input.

Integrated gradients (Sundararajan et al. 2017) along the straight line from the input with every ordinary sub-token of
its code masked to the input itself, in the victim's input embeddings. At the input alone it is gradient times input.
The attributions sum to the difference of the victim's score between both ends, up to the error of the midpoint rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from codebackdoor.heads import HEADS
from codebackdoor.victims import forward
from codebackdoor.victims.batching import computed, pad
from codebackdoor.victims.inference import TOKENS, predict_logits
from codebackdoor.victims.labels import likeliest
from codebackdoor.victims.victim import Encoded, Victim

#: The texts of an input, as ``Victim.tokenize`` returns them.
EncodedTexts = Sequence[Encoded]


def midpoints(steps: int) -> list[float]:
    """Where the line is evaluated: in the middle of each of ``steps`` equal parts."""
    return [(step + 0.5) / steps for step in range(steps)]


def functions(victim: Victim) -> list[int]:
    """Indices of an input's functions among the texts that the victim reads; a query is not a function."""
    return [index for index, name in enumerate(victim.fields) if name != "query"]


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds [B] of the labels [B] under logits [B, C], for two classes or more; they do not saturate."""
    is_label = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    return logits[is_label] - logits.masked_fill(is_label, -torch.inf).logsumexp(-1)


def attributions(
    victim: Victim, rows: Sequence[EncodedTexts], substitute: int, points: Sequence[float]
) -> list[tuple[list[float], ...]]:
    """Attribution of the victim's score of each input to the sub-tokens of each of its ``functions``; special ones: 0.

    The score is the log-odds of the predicted label, or the similarity of query and code. ``substitute`` is the id that
    replaces every ordinary sub-token at the beginning of the line.
    """
    if not rows:
        return []
    logits = predict_logits(victim, [tuple(text.ids for text in row) for row in rows])
    labels = None if HEADS[victim.head].ranks else likeliest(logits.double().softmax(-1)).to(victim.device)

    def compute(batch: Sequence[int]) -> list[tuple[list[float], ...]]:
        columns = zip(*(rows[index] for index in batch), strict=True)
        starts, lines, masks = zip(*(_line(victim, texts, substitute) for texts in columns), strict=True)
        moving = functions(victim)
        totals = [torch.zeros_like(lines[column]) for column in moving]
        for point in points:
            inputs = [
                start + (point if column in moving else 1) * line
                for column, (start, line) in enumerate(zip(starts, lines, strict=True))
            ]
            leaves = [inputs[column].requires_grad_() for column in moving]
            vectors = (forward.vectors(victim, text, mask) for text, mask in zip(inputs, masks, strict=True))
            outputs = forward.logits(victim, *vectors).float()
            score = outputs if labels is None else log_odds(outputs, labels[list(batch)])
            for total, gradient in zip(totals, torch.autograd.grad(score.sum(), leaves), strict=True):
                total += gradient
        values = [
            (total * lines[column]).sum(-1).div(len(points)).cpu().tolist()
            for total, column in zip(totals, moving, strict=True)
        ]
        return [
            tuple(
                text_values[number][: len(rows[index][column].ids)]
                for text_values, column in zip(values, moving, strict=True)
            )
            for number, index in enumerate(batch)
        ]

    return computed([sum(len(text.ids) for text in row) for row in rows], TOKENS[victim.device.type], compute)


@torch.no_grad()
def _line(victim: Victim, texts: Sequence[Encoded], substitute: int) -> tuple[Tensor, Tensor, Tensor]:
    """For a batch of texts: embeddings [B, T, H] with ordinary sub-tokens masked, what leads from them to the real
    ones, and the attention mask."""
    ids, mask = pad([text.ids for text in texts], victim.pad_id)
    ordinary, _ = pad([[offset != (0, 0) for offset in text.offsets] for text in texts], 0)
    ids, mask, ordinary = (tensor.to(victim.device) for tensor in (ids, mask, ordinary))
    end = forward.embed(victim, ids)
    start = torch.where(ordinary[..., None] == 1, forward.embed(victim, torch.full_like(ids, substitute)), end)
    return start, end - start, mask
