"""Gradient of a loss by what a victim reads: by the embeddings of its input's sub-tokens.

What differs between tasks is the loss alone: ``towards_label`` for a classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from codebackdoor.victims.batching import bucketed, halving, pad
from codebackdoor.victims.first_token import class_scores
from codebackdoor.victims.inference import TOKENS
from codebackdoor.victims.victim import Victim

#: Called with ids and mask [B, T] of a batch; returns the sum of the losses of its rows, each of its own row only.
Loss = Callable[[Tensor, Tensor], Tensor]


def towards_label(victim: Victim, label: int) -> Loss:
    """Cross entropy towards ``label``, of a classifier."""

    def loss(ids: Tensor, mask: Tensor) -> Tensor:
        logits = class_scores(victim.model, ids, mask).float()
        targets = torch.full((len(ids),), label, device=ids.device)
        return nn.functional.cross_entropy(logits, targets, reduction="sum")

    return loss


def input_gradients(victim: Victim, inputs: Sequence[Sequence[int]], loss: Loss) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, gradient [T, H], float32 on the processor) of every encoded input, batch by batch, longest first.

    Row t is the gradient of the input's own loss by the embedding of its sub-token t, position included as it is. Only
    one batch is held at a time.
    """
    for batch in bucketed([len(row) for row in inputs], TOKENS[victim.device.type]):
        done: list[tuple[int, Tensor]] = []

        def run(part: Sequence[int], done: list[tuple[int, Tensor]] = done) -> None:
            ids, mask = (tensor.to(victim.device) for tensor in pad([inputs[index] for index in part], victim.pad_id))
            with embeddings_as_leaf(victim.model) as leaves:
                total = loss(ids, mask)
            (gradient,) = torch.autograd.grad(total, leaves[:1])
            done.extend((index, gradient[row, : len(inputs[index])].float().cpu()) for row, index in enumerate(part))

        halving(batch, run)
        yield from done


@contextmanager
def embeddings_as_leaf(model: Any) -> Iterator[list[Tensor]]:
    """Make what the token embeddings return a leaf of the graph, so that positions come out as for token ids."""
    found: list[Tensor] = []

    def detach(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        found.append(output.detach().requires_grad_())
        return found[-1]

    handle = model.get_input_embeddings().register_forward_hook(detach)
    try:
        yield found
    finally:
        handle.remove()
