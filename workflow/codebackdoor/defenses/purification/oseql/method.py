"""OSeqL removes a line on which alone the prediction depends (Hussain et al. 2023; ledger O1-O8).

Every line of an input is occluded in turn. The effect of a line is the drop, without it, of the confidence in the
prediction for the whole input. If two of three outlier detectors agree on a line, and the prediction changes without
it, that line counts as the trigger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from codebackdoor import syntax
from codebackdoor.defenses import thresholds
from codebackdoor.defenses.inputs.functions import CODE_FIELDS
from codebackdoor.defenses.inputs.parts import in_parts
from codebackdoor.defenses.purification import EvidenceSource
from codebackdoor.defenses.purification.oseql.outliers import Flags, Floats, vote
from codebackdoor.defenses.purification.oseql.settings import OSeqLSettings
from codebackdoor.defenses.views import DefenderView, TextView
from codebackdoor.syntax.lines import lines, without_line
from codebackdoor.types import Example, Purified, Span
from codebackdoor.victims.inference import predict_logits
from codebackdoor.victims.labels import likeliest

#: Decimals of an effect; further ones depend on which inputs share a batch.
DECIMALS = 6


class LineEffects:
    """What OSeqL asks the victim: the predictions for each input without one of its lines."""

    def __init__(self, view: DefenderView) -> None:
        self._view = view

    def evidence(self, inputs: Sequence[Example]) -> list[dict[str, Any]]:
        """The lines of each input: field, start, end, effect in [-1, 1], and whether the predicted label changes."""
        return [evidence for part in in_parts(inputs, "oseql: occlude") for evidence in self._measured(part)]

    def _measured(self, inputs: Sequence[Example]) -> list[dict[str, Any]]:
        """All occluded versions go through the victim in one stream."""
        occlusions = [self._occlusions(example) for example in inputs]
        versions = [[example, *(rest for _, rest in row)] for example, row in zip(inputs, occlusions, strict=True)]
        logits = self._logits([version for row in versions for version in row])
        result = []
        for row, part in zip(occlusions, torch.split(logits, [len(row) for row in versions]), strict=True):
            effects, flips = _effects(part)
            measured = zip(row, effects.tolist(), flips.tolist(), strict=True)
            result.append({"lines": [[*_outline(line), effect, flip] for (line, _), effect, flip in measured]})
        return result

    def _occlusions(self, example: Example) -> list[tuple[Span, Example]]:
        """The lines of an input, each with the input without it."""
        result = []
        for field in CODE_FIELDS:
            text = getattr(example, field)
            if text is not None:
                tree = syntax.parse(text, example.language, self._view.text_form)
                result += [
                    (Span(*line, field), _with_function(example, field, without_line(tree, line)))
                    for line in lines(tree)
                ]
        return result

    def _logits(self, examples: Sequence[Example]) -> torch.Tensor:
        victim = self._view.victim
        texts = [[getattr(example, field) for field in victim.fields] for example in examples]
        distinct = list(dict.fromkeys(text for row in texts for text in row))
        ids = {text: encoded.ids for text, encoded in zip(distinct, victim.encode(distinct), strict=True)}
        return predict_logits(victim, [[ids[text] for text in row] for row in texts], variants=True)


@dataclass(frozen=True, slots=True)
class Occlusions:
    """The lines of an input, and for each its effect and whether the prediction changes without it."""

    lines: list[Span]
    effects: Floats
    flips: Flags

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Occlusions:
        return cls(
            [Span(start, end, field) for field, start, end, _, _ in row["lines"]],
            np.array([effect for *_, effect, _ in row["lines"]], dtype=np.float64),
            np.array([flip for *_, flip in row["lines"]], dtype=np.bool_),
        )

    @property
    def score(self) -> float:
        """How far the largest effect stands out: its difference to the median."""
        return float(self.effects.max() - np.median(self.effects)) if len(self.effects) else 0.0


class OSeqL:
    """A purifier of functions and pairs; ``threshold`` is a score.

    ``source`` gives the effects: those on the victim, or those that an earlier job wrote.
    """

    def __init__(self, view: TextView, settings: OSeqLSettings, seed: int, source: EvidenceSource) -> None:
        self._form, self._settings, self.source = view.text_form, settings, source
        self.threshold = settings.threshold
        if settings.touched_share is not None:
            occlusions = self._occlusions(thresholds.drawn(view.clean, settings.calibration_inputs, seed))
            scores = [
                item.score if vote(item.effects, item.flips, settings)[0] is not None else -math.inf
                for item in occlusions
            ]
            self.threshold = thresholds.highest(scores, settings.touched_share)

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        """Remove the line that the detectors agree on from every input whose score is above the threshold.

        ``detail`` of a result holds the score as ``suspicion``, the threshold (None: infinite), the verdict, the line
        that each detector names (an index, or None; a detector that cannot change the verdict is missing), and the
        lines with their effects.
        """
        return [
            self._purified(example, occlusions)
            for example, occlusions in zip(inputs, self._occlusions(inputs), strict=True)
        ]

    def _occlusions(self, inputs: Sequence[Example]) -> list[Occlusions]:
        return [Occlusions.from_json(row) for row in self.source.evidence(inputs)]

    def _purified(self, example: Example, occlusions: Occlusions) -> Purified:
        number, votes = vote(occlusions.effects, occlusions.flips, self._settings)
        is_poisoned = number is not None and occlusions.score > self.threshold
        detail = {
            "suspicion": round(occlusions.score, DECIMALS),
            "threshold": thresholds.finite(round(self.threshold, DECIMALS)),
            "poisoned": is_poisoned,
            "votes": dict(votes),
            "lines": [
                [*_outline(line), effect]
                for line, effect in zip(occlusions.lines, occlusions.effects.tolist(), strict=True)
            ],
        }
        if number is None or not is_poisoned:
            return Purified(example, detail=detail)
        line = occlusions.lines[number]
        tree = syntax.parse(getattr(example, line.field), example.language, self._form)
        rest = without_line(tree, (line.start, line.end))
        return Purified(_with_function(example, line.field, rest), (line,), detail)


def _effects(logits: torch.Tensor) -> tuple[Floats, Flags]:
    """Effects and flips of the occluded versions, given the logits of the input [0] and of each version [1:]."""
    probabilities = logits.double().softmax(-1)
    labels = likeliest(probabilities)
    confidences = probabilities[:, int(labels[0])].numpy()
    return (confidences[0] - confidences[1:]).round(DECIMALS), (labels[1:] != labels[0]).numpy()


def _outline(line: Span) -> list[object]:
    return [line.field, line.start, line.end]


def _with_function(example: Example, field: str, text: str) -> Example:
    return replace(example, code=text) if field == "code" else replace(example, code_b=text)


def source(view: DefenderView, settings: OSeqLSettings) -> LineEffects:  # noqa: ARG001
    """No setting changes the effects."""
    return LineEffects(view)


def build(view: DefenderView, settings: OSeqLSettings, seed: int) -> OSeqL:
    """Without ``touched_share`` nothing is calibrated and nothing is random."""
    return OSeqL(view, settings, seed, LineEffects(view))


def decider(view: TextView, settings: OSeqLSettings, seed: int, kept: EvidenceSource) -> OSeqL:
    """``kept``: effects of an earlier job."""
    return OSeqL(view, settings, seed, kept)
