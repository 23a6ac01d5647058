"""OSeqL: a line on which the prediction depends alone is removed (Hussain et al. 2023; ledger O1-O8).

Every line of an input is occluded in turn. The effect of a line is by how much the confidence in the prediction for
the whole input falls without it. If two of three outlier detectors agree on a line, and the prediction changes without
it, that line counts as the trigger.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm import tqdm

from codebackdoor import syntax
from codebackdoor.defenses.purification import calibration
from codebackdoor.defenses.purification.oseql.outliers import Flags, Floats, vote
from codebackdoor.defenses.purification.oseql.settings import OSeqLSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.syntax.lines import lines, without_line
from codebackdoor.types import CodeField, Example, Purified, Span
from codebackdoor.victims.inference import predict_logits

#: Inputs whose occluded versions are in memory at once.
INPUTS_AT_ONCE = 512
#: Functions of an input.
CODE: tuple[CodeField, ...] = ("code", "code_b")
#: Decimals of an effect: the last bits of a confidence depend on which inputs share a batch.
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Occlusion:
    """A line of an input, and the input without it."""

    line: Span
    rest: Example


@dataclass(frozen=True, slots=True)
class Evidence:
    """Occluded versions of an input, and for each its effect in [-1, 1] and whether the predicted label changes."""

    occlusions: list[Occlusion]
    effects: Floats
    flips: Flags

    @property
    def score(self) -> float:
        """How far the largest effect stands out: by how much it exceeds the median one."""
        return float(self.effects.max() - np.median(self.effects)) if len(self.effects) else 0.0


class OSeqL:
    """A purifier of functions and pairs; ``threshold`` is a score."""

    def __init__(self, view: DefenderView, settings: OSeqLSettings, seed: int) -> None:
        self._view, self._settings = view, settings
        self.threshold = settings.threshold
        if settings.touched_share is not None:
            clean = calibration.drawn(view.clean, settings.calibration_inputs, seed)
            assessed = [evidence for part in _parts(clean, "calibrate") for evidence in self.assess(part)]
            scores = [item.score if vote(item.effects, item.flips, settings)[0] is not None else -math.inf
                      for item in assessed]  # fmt: skip
            self.threshold = calibration.highest(scores, settings.touched_share)

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        """Remove the line that the detectors agree on from every input whose score is above the threshold.

        ``detail`` of a result holds the score, the threshold (None: infinite), the verdict, the line that each
        detector names (an index, or None; a detector that cannot change the verdict is missing), and the lines with
        their effects.
        """
        return [
            self._purified(example, evidence)
            for part in _parts(inputs, "purify")
            for example, evidence in zip(part, self.assess(part), strict=True)
        ]

    def _purified(self, example: Example, evidence: Evidence) -> Purified:
        line, votes = vote(evidence.effects, evidence.flips, self._settings)
        is_poisoned = line is not None and evidence.score > self.threshold
        detail = {
            "score": round(evidence.score, DECIMALS),
            "threshold": calibration.finite(round(self.threshold, DECIMALS)),
            "poisoned": is_poisoned,
            "votes": dict(votes),
            "lines": [
                [occlusion.line.field, occlusion.line.start, occlusion.line.end, effect]
                for occlusion, effect in zip(evidence.occlusions, evidence.effects.tolist(), strict=True)
            ],
        }
        if line is None or not is_poisoned:
            return Purified(example, detail=detail)
        occlusion = evidence.occlusions[line]
        return Purified(occlusion.rest, (occlusion.line,), detail)

    def assess(self, inputs: Sequence[Example]) -> list[Evidence]:
        """The effect of every line of every input; all occluded versions go through the victim in one stream."""
        occlusions = [self._occlusions(example) for example in inputs]
        versions = [
            [example, *(occlusion.rest for occlusion in row)] for example, row in zip(inputs, occlusions, strict=True)
        ]
        logits = self._logits([version for row in versions for version in row])
        return [
            Evidence(row, *_effects(part))
            for row, part in zip(occlusions, torch.split(logits, [len(row) for row in versions]), strict=True)
        ]

    def _occlusions(self, example: Example) -> list[Occlusion]:
        result = []
        for field in CODE:
            text = getattr(example, field)
            if text is not None:
                tree = syntax.parse(text, example.language, self._view.text_form)
                for line in lines(tree):
                    rest = without_line(tree, line)
                    changed = replace(example, code=rest) if field == "code" else replace(example, code_b=rest)
                    result.append(Occlusion(Span(*line, field), changed))
        return result

    def _logits(self, examples: Sequence[Example]) -> torch.Tensor:
        victim = self._view.victim
        texts = [[getattr(example, field) for field in victim.fields] for example in examples]
        distinct = list(dict.fromkeys(text for row in texts for text in row))
        ids = {text: encoded.ids for text, encoded in zip(distinct, victim.encode(distinct), strict=True)}
        return predict_logits(victim, [[ids[text] for text in row] for row in texts], variants=True)


def _effects(logits: torch.Tensor) -> tuple[Floats, Flags]:
    """Effects and flips of the occluded versions, given the logits of the input [0] and of each version [1:]."""
    labels = logits.argmax(-1)
    confidences = logits.double().softmax(-1)[:, int(labels[0])].numpy()
    return (confidences[0] - confidences[1:]).round(DECIMALS), (labels[1:] != labels[0]).numpy()


def _parts(inputs: Sequence[Example], step: str) -> Iterator[Sequence[Example]]:
    with tqdm(total=len(inputs), desc=f"oseql: {step}", unit="input", disable=None) as bar:
        for start in range(0, len(inputs), INPUTS_AT_ONCE):
            part = inputs[start : start + INPUTS_AT_ONCE]
            yield part
            bar.update(len(part))


def build(view: DefenderView, settings: OSeqLSettings, seed: int) -> OSeqL:
    """Without ``touched_share`` nothing is calibrated and nothing is random."""
    return OSeqL(view, settings, seed)
