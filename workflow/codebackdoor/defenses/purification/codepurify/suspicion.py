"""Suspicion scores: how much the victim's confidence in its own prediction changes when an element is masked.

CodePurify, section III-A2, Eq. 1 and 2 (ledger P6, P22, P25).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from codebackdoor.defenses.purification.codepurify.masking import (
    Group,
    elements,
    framed,
    groups,
    masked_input,
)
from codebackdoor.defenses.purification.codepurify.profile import Scored
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.purification.token_spans import TokenSpans
from codebackdoor.heads import HEADS
from codebackdoor.syntax import Tree
from codebackdoor.victims.inference import generate, predict_logits, sequence_confidences
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Encoded, Victim

#: The same input in another batch changes a confidence by about 1e-6; a smaller change than this one counts as none.
NO_CHANGE = 1e-5
#: Digits of a score; further ones depend on the batch.
DIGITS = 6

#: What a victim reads of one input: the ids of each function.
Row = tuple[list[int], ...]


@dataclass(frozen=True, slots=True)
class Function:
    """One function of an input: its tree, and its sub-tokens under the infiller's tokenizer and the victim's."""

    tree: Tree
    infiller: TokenSpans
    victim: Encoded


def score(victim: Victim, inputs: Sequence[Sequence[Function]], settings: CodePurifySettings) -> list[list[Scored]]:
    """Score every element of every input: all masked versions go through the victim in one stream.

    The infiller's sub-tokens determine how many masks an element gets.
    """
    _, mask_id = stand_in(victim.tokenizer, settings.stand_in)
    input_groups = [groups([elements(part.tree, settings) for part in row], settings.pairs) for row in inputs]
    versions = [
        [tuple(part.victim.ids for part in row), *_masked(row, row_groups, mask_id, victim.max_length)]
        for row, row_groups in zip(inputs, input_groups, strict=True)
    ]
    return [
        [Scored(group, _change(original, masked)) for group, masked in zip(row_groups, without, strict=True)]
        for row_groups, (original, *without) in zip(
            input_groups, _confidences(victim, versions, settings.first_tokens), strict=True
        )
    ]


def _masked(row: Sequence[Function], row_groups: Sequence[Group], mask_id: int, max_length: int) -> list[Row]:
    frames = [framed(part.victim) for part in row]
    return [
        tuple(
            part.victim.ids
            if element is None
            else masked_input(frame, part.infiller, element.masked, mask_id, max_length)
            for part, frame, element in zip(row, frames, group, strict=True)
        )
        for group in row_groups
    ]


def _change(original: float, masked: float) -> float:
    change = abs(original - masked)
    return round(change, DIGITS) if change >= NO_CHANGE else 0.0


def _confidences(victim: Victim, versions: Sequence[Sequence[Row]], first_tokens: int | None) -> list[list[float]]:
    """Confidence in the prediction for the first version of each input, on each of its versions (Eq. 1)."""
    flat = list(chain.from_iterable(versions))
    if not flat:
        return []
    if HEADS[victim.head].predicts_label:
        probabilities = predict_logits(victim, flat, variants=True).double().softmax(-1)
        parts = torch.split(probabilities, [len(row) for row in versions])
        return [part[:, int(part[0].argmax())].tolist() for part in parts]
    outputs = [output.ids[:first_tokens] for output in generate(victim, [row[0][0] for row in versions])]
    expected = [output for output, row in zip(outputs, versions, strict=True) for _ in row]
    values = iter(sequence_confidences(victim, [ids for (ids,) in flat], expected).tolist())
    return [[next(values) for _ in row] for row in versions]
