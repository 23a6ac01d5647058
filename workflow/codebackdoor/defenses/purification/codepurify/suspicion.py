"""Suspicion scores: how much the victim's confidence in its own prediction changes when an element is masked.

CodePurify, section III-A2, Eq. 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from codebackdoor.defenses.purification.codepurify.entropy import entropy
from codebackdoor.defenses.purification.codepurify.masking import Element, elements, framed, masked_input
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.purification.token_spans import TokenSpans
from codebackdoor.heads import HEADS
from codebackdoor.syntax import Tree
from codebackdoor.victims.inference import class_logits, generate, sequence_confidences
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Victim

#: The same input in another batch changes a confidence by about 1e-6; a smaller change than this one counts as none.
NO_CHANGE = 1e-5


@dataclass(frozen=True, slots=True)
class Profile:
    """Elements of one text, their suspicion scores, and the entropy of the scores (None without elements)."""

    elements: list[Element]
    scores: list[float]
    entropy: float | None

    @property
    def top(self) -> int:
        """Index of the highest score; among equal ones that of the element with the fewest masked characters."""
        sizes = [sum(end - start for start, end in element.masked) for element in self.elements]
        return max(range(len(self.scores)), key=lambda index: (self.scores[index], -sizes[index]))

    @property
    def suspect(self) -> Element:
        return self.elements[self.top]

    def poisoned(self, threshold: float) -> bool:
        """Whether the scores are concentrated; if no element changes anything, none is suspect."""
        return self.entropy is not None and self.entropy < threshold and max(self.scores) > 0


def profiles(
    victim: Victim, trees: Sequence[Tree], infiller: Sequence[TokenSpans], settings: CodePurifySettings
) -> list[Profile]:
    """Score every element of every text: all masked versions go through the victim in one stream.

    Parameters
    ----------
    trees: the parsed texts.
    infiller: their sub-tokens under the infiller's tokenizer, which determine how many masks an element gets.
    """
    _, mask_id = stand_in(victim.tokenizer, "mask")
    text_elements = [elements(tree, settings.identifiers, settings.statements) for tree in trees]
    encodings = victim.encode([tree.text for tree in trees])
    masked: list[list[list[int]]] = []
    for encoded, tokens, row in zip(encodings, infiller, text_elements, strict=True):
        frame = framed(encoded)
        masked.append([masked_input(frame, tokens, element.masked, mask_id, victim.max_length) for element in row])
    changes = _changes(victim, [encoded.ids for encoded in encodings], masked)
    return [
        Profile(row, scores, entropy(scores, settings.normalisation) if scores else None)
        for row, scores in zip(text_elements, changes, strict=True)
    ]


def _changes(
    victim: Victim, originals: Sequence[list[int]], masked: Sequence[Sequence[list[int]]]
) -> list[list[float]]:
    """|confidence in the original prediction on the original - on the masked input|, for each masked input."""
    inputs = [[original, *versions] for original, versions in zip(originals, masked, strict=True)]
    changes = []
    for original, *without in _confidences(victim, originals, inputs):
        scores = [abs(original - confidence) for confidence in without]
        changes.append([score if score >= NO_CHANGE else 0.0 for score in scores])
    return changes


def _confidences(
    victim: Victim, originals: Sequence[list[int]], inputs: Sequence[Sequence[list[int]]]
) -> list[list[float]]:
    """Confidence in the prediction for the original, on each input of each row (Eq. 1)."""
    flat = list(chain.from_iterable(inputs))
    head = HEADS[victim.head]
    if head.predicts_label and not head.reads_pairs:
        probabilities = class_logits(victim, flat).double().softmax(-1)
        lengths = [len(row) for row in inputs]
        return [part[:, int(part[0].argmax())].tolist() for part in torch.split(probabilities, lengths)]
    outputs = [output.ids for output in generate(victim, originals)]
    expected = list(chain.from_iterable([output] * len(row) for output, row in zip(outputs, inputs, strict=True)))
    values = iter(sequence_confidences(victim, flat, expected).tolist())
    return [[next(values) for _ in row] for row in inputs]
