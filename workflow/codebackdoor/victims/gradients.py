"""Gradients of a loss with respect to a victim's inputs: to the embeddings of its texts' sub-tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from codebackdoor.victims import forward
from codebackdoor.victims.batching import bucketed, halving, pad
from codebackdoor.victims.inference import TOKENS, forced_tokens, log_probabilities
from codebackdoor.victims.victim import Victim

#: Called with the output of ``forward.logits`` for a batch; returns the sum of the rows' losses, which are independent.
Loss = Callable[[Tensor], Tensor]


def towards_label(label: int) -> Loss:
    """Cross entropy of a classifier, of texts or pairs, towards a label."""
    return lambda logits: functional.cross_entropy(
        logits.float(), torch.full(logits.shape[:1], label, device=logits.device), reduction="sum"
    )


def log_odds(logits: Tensor) -> Tensor:
    """Log odds of each row's predicted label.

    Unlike the gradient of the label's log-probability, of which it is a multiple, their gradient does not vanish when
    the victim is certain.
    """
    logits = logits.float()
    top = logits.argmax(-1, keepdim=True)
    rest = logits.scatter(-1, top, -torch.inf).logsumexp(-1)
    return (logits.gather(-1, top)[..., 0] - rest).sum()


def towards_query(similarities: Tensor) -> Tensor:
    """Loss of a dual encoder that should retrieve the code for the query: the negative similarity."""
    return -similarities.float().sum()


def input_gradients(
    victim: Victim, rows: Sequence[Sequence[Sequence[int]]], loss: Loss
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """Yield (index, gradients) of every row, batch by batch, longest first; one batch is in memory at a time.

    A row holds the ids of each text that the victim reads (``Victim.fields``). The gradient of a text, [T, H] in
    float32 on the CPU, is that of the row's loss with respect to the embeddings of its sub-tokens.
    """
    for index, _, gradients in outputs_and_gradients(victim, rows, loss):
        yield index, gradients


def outputs_and_gradients(
    victim: Victim, rows: Sequence[Sequence[Sequence[int]]], loss: Loss
) -> Iterator[tuple[int, Tensor, tuple[Tensor, ...]]]:
    """Like ``input_gradients``, but yield (index, output, gradients) with the outputs of ``forward.logits``.

    Outputs are in float32 on the CPU.
    """
    for batch in bucketed([sum(map(len, row)) for row in rows], TOKENS[victim.device.type]):
        results: list[tuple[int, Tensor, tuple[Tensor, ...]]] = []

        def run(part: Sequence[int], results: list[tuple[int, Tensor, tuple[Tensor, ...]]] = results) -> None:
            leaves, vectors = [], []
            for texts in zip(*(rows[index] for index in part), strict=True):
                ids, mask = pad(texts, victim.pad_id, victim.device)
                leaves.append(forward.embed(victim, ids).detach().requires_grad_())
                vectors.append(forward.vectors(victim, leaves[-1], mask))
            output = forward.logits(victim, *vectors)
            padded = torch.autograd.grad(loss(output), leaves)
            for position, (index, row_output) in enumerate(zip(part, output.detach().float().cpu(), strict=True)):
                pairs = zip(padded, rows[index], strict=True)
                gradients = tuple(gradient[position, : len(ids)].float().cpu() for gradient, ids in pairs)
                results.append((index, row_output, gradients))

        halving(batch, run)
        yield from results


def output_gradients(
    victim: Victim, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, gradient) of every encoded input of a victim that generates, in batches as ``input_gradients``.

    The gradient [T, H] is that of the cross entropy of the input's output, summed over its tokens (teacher forcing).
    """
    lengths = [len(ids) + len(output) for ids, output in zip(inputs, outputs, strict=True)]
    for batch in bucketed(lengths, forced_tokens(victim)):
        results: list[tuple[int, Tensor]] = []

        def run(part: Sequence[int], results: list[tuple[int, Tensor]] = results) -> None:
            ids, mask = pad([inputs[index] for index in part], victim.pad_id, victim.device)
            labels, real = pad([outputs[index] for index in part], victim.pad_id, victim.device)
            leaf = forward.embed(victim, ids).detach().requires_grad_()
            loss = -(log_probabilities(victim, leaf, mask, labels) * real).sum()
            (padded,) = torch.autograd.grad(loss, leaf)
            for position, index in enumerate(part):
                results.append((index, padded[position, : len(inputs[index])].float().cpu()))

        halving(batch, run)
        yield from results
