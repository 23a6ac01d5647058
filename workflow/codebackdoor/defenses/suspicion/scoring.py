"""Suspicion scores: how much the victim's confidence in its own prediction changes when an element is masked.

CodePurify, section III-A2, Eq. 1 and 2 (ledger P6, P22, P25).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from codebackdoor import syntax
from codebackdoor.defenses.inputs.functions import apart
from codebackdoor.defenses.inputs.parts import in_parts
from codebackdoor.defenses.inputs.token_spans import split
from codebackdoor.defenses.suspicion.masking import (
    Function,
    Group,
    elements,
    framed,
    groups,
    masked_input,
)
from codebackdoor.defenses.suspicion.profile import Scored
from codebackdoor.defenses.suspicion.screening import Screen, screened
from codebackdoor.defenses.suspicion.settings import ElementSettings
from codebackdoor.heads import HEADS
from codebackdoor.types import Example
from codebackdoor.victims.inference import generate, predict_logits, sequence_confidences
from codebackdoor.victims.labels import likeliest
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Victim

if TYPE_CHECKING:
    from codebackdoor.defenses.views import TrainingView

#: The same input in another batch changes a confidence by about 1e-6; a smaller change than this one counts as none.
NO_CHANGE = 1e-5
#: Digits of a score; further ones depend on the batch.
DIGITS = 6

#: What a victim reads of one input: the ids of each function.
TextIds = tuple[list[int], ...]


class ElementScores:
    """What CodePurify asks the victim: the suspicion scores of all elements.

    ``tokenizer``: that of the infiller, whose sub-tokens determine how many masks an element gets.
    """

    def __init__(self, view: TrainingView, tokenizer: Any, settings: ElementSettings) -> None:
        self._view, self._tokenizer, self._settings = view, tokenizer, settings

    def evidence(self, inputs: Sequence[Example]) -> list[dict[str, Any]]:
        """The elements of each input (``Scored.as_json``), scores rounded to the six decimals that are reproducible."""
        return [
            {"elements": [element.as_json() for element in scored]}
            for part in in_parts(inputs, "codepurify: score")
            for scored in score(self._view.victim, self._functions(part), self._settings)
        ]

    def _functions(self, inputs: Sequence[Example]) -> list[list[Function]]:
        """The functions of each input."""
        texts = [function.code for function in apart(inputs)]
        functions = iter(zip(texts, split(self._tokenizer, texts), self._view.victim.encode(texts), strict=True))
        language, form = self._view.language, self._view.text_form
        return [
            [
                Function(syntax.parse(text, language, form), tokens, encoded)
                for text, tokens, encoded in (next(functions) for _ in apart([example]))
            ]
            for example in inputs
        ]


def score(victim: Victim, inputs: Sequence[Sequence[Function]], settings: ElementSettings) -> list[list[Scored]]:
    """Score every element of every input, or those that pass the screen: their masked versions form one stream.

    The infiller's sub-tokens determine how many masks an element gets.
    """
    _, mask_id = stand_in(victim.tokenizer, settings.stand_in)
    all_groups = [groups([elements(part.tree, settings) for part in row], settings.pairs) for row in inputs]
    originals = [tuple(part.victim.ids for part in row) for row in inputs]
    outputs = _outputs(victim, originals, settings.first_tokens)
    screen = Screen(all_groups, {})
    if settings.screen == "gradient":
        screen = screened(victim, inputs, all_groups, settings.screened_elements, outputs)
    versions = [
        [original, *_masked(row, row_groups, mask_id, victim.max_length)]
        for original, row, row_groups in zip(originals, inputs, screen.groups, strict=True)
    ]
    if outputs is None:
        confidences = _label_confidences(victim, versions, screen.logits)
    else:
        confidences = _output_confidences(victim, versions, outputs)
    return [
        [Scored(group, _change(original, masked)) for group, masked in zip(row_groups, without, strict=True)]
        for row_groups, (original, *without) in zip(screen.groups, confidences, strict=True)
    ]


def _outputs(victim: Victim, rows: Sequence[TextIds], first_tokens: int | None) -> list[list[int]] | None:
    """The first tokens of each input's output, whose confidence is measured; None if the victim predicts a label."""
    if HEADS[victim.head].predicts_label:
        return None
    return [output.ids[:first_tokens] for output in generate(victim, [ids for (ids,) in rows])]


def _masked(row: Sequence[Function], row_groups: Sequence[Group], mask_id: int, max_length: int) -> list[TextIds]:
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


def _label_confidences(
    victim: Victim, versions: Sequence[Sequence[TextIds]], logits: Mapping[int, Tensor]
) -> list[list[float]]:
    """Confidence in the label of each input's first version, on each of its versions (Eq. 1).

    ``logits`` holds those of first versions that were computed before, by the number of the input.
    """
    parts = [of_input[number in logits :] for number, of_input in enumerate(versions)]
    outputs = torch.split(
        predict_logits(victim, list(chain.from_iterable(parts)), variants=True), list(map(len, parts))
    )
    confidences = []
    for number, of_input in enumerate(outputs):
        of_original = (logits[number][None],) if number in logits else ()
        probabilities = torch.cat([*of_original, of_input]).double().softmax(-1)
        confidences.append(probabilities[:, int(likeliest(probabilities[:1]))].tolist())
    return confidences


def _output_confidences(
    victim: Victim, versions: Sequence[Sequence[TextIds]], outputs: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Confidence in each input's output, on each of its versions (Eq. 1)."""
    flat = [(ids, output) for of_input, output in zip(versions, outputs, strict=True) for (ids,) in of_input]
    values = sequence_confidences(victim, [ids for ids, _ in flat], [output for _, output in flat])
    return [part.tolist() for part in torch.split(values, list(map(len, versions)))]
