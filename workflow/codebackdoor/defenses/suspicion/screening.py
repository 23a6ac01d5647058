"""Which elements are scored exactly: those on which the prediction depends most, to first order.

Not in the paper, whose defense runs the victim once for every element. The gradient of the prediction times the
embedding, summed over an element's sub-tokens, is the first-order effect of setting their embeddings to zero: one
forward and one backward pass estimate the scores of all elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codebackdoor.defenses.suspicion.masking import Framed, Function, Group, framed
from codebackdoor.victims.gradients import log_odds, output_gradients, outputs_and_gradients
from codebackdoor.victims.victim import Victim


@dataclass(frozen=True, slots=True)
class Screen:
    """The groups of each input that are scored, and logits that computing the gradients gave as well.

    ``logits`` [C], by index: those of inputs that needed a gradient, if the victim has labels.
    """

    groups: list[list[Group]]
    logits: Mapping[int, Tensor]


def screened(
    victim: Victim,
    inputs: Sequence[Sequence[Function]],
    groups: Sequence[Sequence[Group]],
    count: int,
    outputs: Sequence[Sequence[int]] | None = None,
) -> Screen:
    """Keep the ``count`` groups of each input with the largest estimated changes, in their order.

    ``outputs``: the ids of each input's output, for a victim that generates.
    """
    selected, logits = [list(of_input) for of_input in groups], {}
    # an input with at most ``count`` groups needs no estimates
    crowded = [index for index, of_input in enumerate(groups) if len(of_input) > count]
    rows = [[part.victim.ids for part in inputs[index]] for index in crowded]
    expected = None if outputs is None else [outputs[index] for index in crowded]
    table = victim.model.get_input_embeddings().weight.detach()
    for number, output, gradients in _gradients(victim, rows, expected):
        index = crowded[number]
        if output is not None:
            logits[index] = output
        frames = [framed(part.victim) for part in inputs[index]]
        changes = [_changes(table, *text) for text in zip(rows[number], gradients, strict=True)]
        estimates = [abs(_estimate(group, frames, changes)) for group in groups[index]]
        largest = sorted(range(len(estimates)), key=lambda at: -estimates[at])[:count]
        selected[index] = [groups[index][at] for at in sorted(largest)]
    return Screen(selected, logits)


def _gradients(
    victim: Victim, rows: Sequence[Sequence[Sequence[int]]], outputs: Sequence[Sequence[int]] | None
) -> Iterator[tuple[int, Tensor | None, tuple[Tensor, ...]]]:
    """Index, logits and gradients of each row: of its label's log odds, or of its output's log-probability."""
    if outputs is None:
        yield from outputs_and_gradients(victim, rows, log_odds)
        return
    for index, gradient in output_gradients(victim, [ids for (ids,) in rows], outputs):
        yield index, None, (gradient,)


def _changes(table: Tensor, ids: Sequence[int], gradient: Tensor) -> list[float]:
    """Gradient times embedding of each sub-token, summed up to each position: what all of them before it contribute."""
    embedded = table[torch.tensor(ids, device=table.device)].float().cpu()
    return [0.0, *(gradient * embedded).sum(-1).double().cumsum(0).tolist()]


def _estimate(group: Group, frames: Sequence[Framed], changes: Sequence[Sequence[float]]) -> float:
    """What the sub-tokens contribute that masking the group would replace, over all functions."""
    total = 0.0
    for element, frame, summed in zip(group, frames, changes, strict=True):
        for start, end in element.masked if element else ():
            low, high = (len(frame.opening) + position for position in frame.body.covered(start, end))
            total += summed[high] - summed[low]
    return total
