"""How much each sub-token of an input speaks for what the victim says of it.

Integrated gradients (Sundararajan et al. 2017) along the straight line from the input with every ordinary sub-token of
its code masked to the input itself, in the victim's input embeddings; at the input alone it is gradient times input.
They sum up to the difference of the victim's score between both ends, up to the error of the midpoint rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from codebackdoor.victims import forward
from codebackdoor.victims.batching import bucketed, halving, pad
from codebackdoor.victims.inference import TOKENS, answers
from codebackdoor.victims.victim import Encoded, Victim

#: The texts of an input, as ``Victim.read`` returns them.
Row = Sequence[Encoded]


def midpoints(steps: int) -> list[float]:
    """Where the line is looked at: in the middle of each of ``steps`` equal parts."""
    return [(step + 0.5) / steps for step in range(steps)]


def functions(victim: Victim) -> list[int]:
    """Places of an input's functions among the texts that the victim reads; a query is none."""
    return [place for place, name in enumerate(victim.fields) if name != "query"]


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Logarithm of the odds [B] of the labels [B] under logits [B, C], two classes or more; it does not saturate."""
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(-1)


def attributions(
    victim: Victim, rows: Sequence[Row], substitute: int, points: Sequence[float]
) -> list[tuple[list[float], ...]]:
    """Attribution of the victim's score of each input to the sub-tokens of each of its ``functions``, special ones 0.

    The score is the log-odds of the predicted label, or the similarity of query and code. ``substitute`` is the id that
    stands for every ordinary sub-token at the line's beginning.
    """
    if not rows:
        return []
    found: dict[int, tuple[list[float], ...]] = {}
    said = answers(victim, [tuple(text.ids for text in row) for row in rows])
    labels = None if victim.head == "retrieval" else said.argmax(-1).to(victim.device)

    def run(batch: Sequence[int]) -> None:
        own = [rows[index] for index in batch]
        starts, lines, masks = zip(*(_line(victim, texts, substitute) for texts in zip(*own, strict=True)), strict=True)
        moving = functions(victim)
        totals = [torch.zeros_like(lines[place]) for place in moving]
        for point in points:
            reached = [
                start + (point if place in moving else 1) * line
                for place, (start, line) in enumerate(zip(starts, lines, strict=True))
            ]
            leaves = [reached[place].requires_grad_() for place in moving]
            read = (forward.vectors(victim, one, mask) for one, mask in zip(reached, masks, strict=True))
            judged = forward.judge(victim, *read).float()
            score = judged if labels is None else log_odds(judged, labels[list(batch)])
            for total, gradient in zip(totals, torch.autograd.grad(score.sum(), leaves), strict=True):
                total += gradient
        values = [
            (total * lines[place]).sum(-1).div(len(points)).cpu().tolist()
            for total, place in zip(totals, moving, strict=True)
        ]
        for number, index in enumerate(batch):
            found[index] = tuple(
                column[number][: len(rows[index][place].ids)] for column, place in zip(values, moving, strict=True)
            )

    for batch in bucketed([sum(len(text.ids) for text in row) for row in rows], TOKENS[victim.device.type]):
        halving(batch, run)
    return [found[index] for index in range(len(rows))]


@torch.no_grad()
def _line(victim: Victim, texts: Sequence[Encoded], substitute: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of a batch of texts: embeddings [B, T, H] with what is ordinary masked, the way to the texts' own, the mask."""
    ids, mask = pad([text.ids for text in texts], victim.pad_id)
    ordinary, _ = pad([[offset != (0, 0) for offset in text.offsets] for text in texts], 0)
    ids, mask, ordinary = (tensor.to(victim.device) for tensor in (ids, mask, ordinary))
    end = forward.embed(victim, ids)
    start = torch.where(ordinary[..., None] == 1, forward.embed(victim, torch.full_like(ids, substitute)), end)
    return start, end - start, mask
