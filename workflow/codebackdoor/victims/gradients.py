"""Gradient of a loss by what a victim reads: by the embeddings of its texts' sub-tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from codebackdoor.victims import forward
from codebackdoor.victims.batching import bucketed, halving, pad
from codebackdoor.victims.inference import TOKENS
from codebackdoor.victims.victim import Victim

#: Called with what ``forward.judge`` says of a batch's rows; returns the sum of their losses, each of its own row only.
Loss = Callable[[Tensor], Tensor]


def towards_label(label: int) -> Loss:
    """Cross entropy of a classifier, of texts or pairs, towards a label."""
    return lambda logits: functional.cross_entropy(
        logits.float(), torch.full(logits.shape[:1], label, device=logits.device), reduction="sum"
    )


def towards_query(similarities: Tensor) -> Tensor:
    """What a dual encoder lacks to find the code by the query: the similarity, negative."""
    return -similarities.float().sum()


def input_gradients(
    victim: Victim, rows: Sequence[Sequence[Sequence[int]]], loss: Loss
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """Yield (index, gradients) of every row, batch by batch, longest first; only one batch is held at a time.

    A row holds the ids of each text that the victim reads (``Victim.fields``). The gradient of a text, [T, H] in
    float32 on the processor, is that of the row's own loss by the embeddings of its sub-tokens.
    """
    for batch in bucketed([sum(map(len, row)) for row in rows], TOKENS[victim.device.type]):
        done: list[tuple[int, tuple[Tensor, ...]]] = []

        def run(part: Sequence[int], done: list[tuple[int, tuple[Tensor, ...]]] = done) -> None:
            leaves, read = [], []
            for texts in zip(*(rows[index] for index in part), strict=True):
                ids, mask = pad(texts, victim.pad_id, victim.device)
                leaves.append(forward.embed(victim, ids).detach().requires_grad_())
                read.append(forward.vectors(victim, leaves[-1], mask))
            found = torch.autograd.grad(loss(forward.judge(victim, *read)), leaves)
            for place, index in enumerate(part):
                own = zip(found, rows[index], strict=True)
                done.append((index, tuple(gradient[place, : len(ids)].float().cpu() for gradient, ids in own)))

        halving(batch, run)
        yield from done
