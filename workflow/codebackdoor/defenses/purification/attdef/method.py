"""AttDef masks the sub-tokens that carry the prediction of an input that looks tampered with (Li et al. 2023).

A replaced-token discriminator decides for each function whether it was tampered with. If so, the victim's prediction is
attributed to its sub-tokens. Those whose attribution, scaled to [0, 1] within the function, reaches a threshold are
masked; the highest always does. The threshold is the lowest that costs at most two points on clean validation rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from codebackdoor.defenses import thresholds
from codebackdoor.defenses.helpers import REPLACED, load_helper
from codebackdoor.defenses.inputs.functions import apart, together
from codebackdoor.defenses.purification.attdef import attribution
from codebackdoor.defenses.purification.attdef.discriminator import Discriminator
from codebackdoor.defenses.purification.attdef.settings import AttDefSettings
from codebackdoor.defenses.purification.performance import last_affordable
from codebackdoor.defenses.views import DefenderView
from codebackdoor.syntax.lexing import MARKS
from codebackdoor.types import Example, Purified, Span
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Encoded

#: Candidate thresholds in the order in which Li et al.'s code tries them.
CANDIDATES = [hundredths / 100 for hundredths in range(99, 10, -1)]


@dataclass(frozen=True, slots=True)
class Attributions:
    """Sub-tokens of a function, as character spans, and the relative attribution of each."""

    spans: list[tuple[int, int]]
    scores: list[float]


@dataclass(frozen=True, slots=True)
class Assessment:
    """A function, the discriminator's suspicion, and the attributions of its sub-tokens if it is suspect."""

    function: Example
    suspicion: float
    attributions: Attributions | None


class AttDef:
    """A calibrated purifier; ``suspicion_threshold`` is a probability, ``threshold`` a relative attribution."""

    def __init__(self, view: DefenderView, discriminator: Discriminator, settings: AttDefSettings, seed: int) -> None:
        self._view, self._discriminator = view, discriminator
        self._points = [1.0] if settings.attribution == "gradient_input" else attribution.midpoints(settings.steps)
        self.mask, self._mask_id = stand_in(view.victim.tokenizer, "mask")
        clean = thresholds.drawn(view.clean, settings.calibration_inputs, seed)
        if settings.suspected_share is None:
            self.suspicion_threshold = settings.suspicion
        else:
            suspicions = discriminator.suspicions([function.code for function in apart(clean)])
            self.suspicion_threshold = thresholds.highest(suspicions, settings.suspected_share)
        if settings.threshold is not None:
            self.threshold = settings.threshold
        elif settings.masked_share is not None:
            scores = [score for attributions in self.score(clean) for score in attributions.scores]
            self.threshold = thresholds.highest(scores, settings.masked_share)
        else:
            self.threshold = self._affordable(clean, settings.lost_points)

    def _affordable(self, clean: Sequence[Example], points: float) -> float:
        assessments = self._assess(clean)

        def rewritten(threshold: float) -> list[Example]:
            rows = together(clean, [self._masked(assessment, threshold) for assessment in assessments])
            return [row.example for row in rows]

        return last_affordable(self._view.victim, clean, points, CANDIDATES, rewritten, CANDIDATES[0])

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        """Mask the sub-tokens that reach the threshold in every function that the discriminator calls tampered with.

        ``detail`` of a result holds the discriminator's suspicion with its threshold, the verdict, the attribution
        threshold (None: infinite) and the masked sub-tokens with their attributions, rounded to six decimals.
        """
        return together(inputs, [self._masked(assessment, self.threshold) for assessment in self._assess(inputs)])

    def _assess(self, inputs: Sequence[Example]) -> list[Assessment]:
        """Assess every function of the inputs, in order; functions that are not suspect get no attributions."""
        functions = apart(inputs)
        suspicions = self._discriminator.suspicions([function.code for function in functions])
        suspect = [suspicion > self.suspicion_threshold for suspicion in suspicions]
        # a pair is attributed as a whole if one of its functions is suspect
        owners = [number for number, example in enumerate(inputs) for _ in apart([example])]
        attributed = sorted({owner for owner, is_suspect in zip(owners, suspect, strict=True) if is_suspect})
        results = iter(self.score([inputs[number] for number in attributed]))
        is_attributed = set(attributed)
        attributions = [next(results) if owner in is_attributed else None for owner in owners]
        return [
            Assessment(function, suspicion, scores if is_suspect else None)
            for function, scores, is_suspect, suspicion in zip(
                functions, attributions, suspect, suspicions, strict=True
            )
        ]

    def _masked(self, assessment: Assessment, threshold: float) -> Purified:
        function, attributions = assessment.function, assessment.attributions or Attributions([], [])
        reached = [
            (span, score)
            for span, score in zip(attributions.spans, attributions.scores, strict=True)
            if score >= threshold
        ]
        detail = {
            "suspicion": assessment.suspicion,
            "suspicion_threshold": thresholds.finite(self.suspicion_threshold),
            "poisoned": assessment.attributions is not None,
            "threshold": thresholds.finite(threshold),
            "masked": [[function.code[start:end], score] for (start, end), score in reached],
        }
        spans = [span for span, _ in reached]
        code = self.remove(function.code, spans)
        return Purified(replace(function, code=code), tuple(Span(*span) for span in spans), detail)

    def remove(self, text: str, spans: Sequence[tuple[int, int]]) -> str:
        """Mask the spans."""
        return masked(text, spans, self.mask)

    def score(self, inputs: Sequence[Example]) -> list[Attributions]:
        """Relative attributions of the sub-tokens of every function of the inputs, in order, suspect or not."""
        victim = self._view.victim
        rows, columns = victim.tokenize(inputs), attribution.functions(victim)
        encoded = [row[column] for row in rows for column in columns]
        values = [
            function_values
            for row in attribution.attributions(victim, rows, self._mask_id, self._points)
            for function_values in row
        ]
        texts = [function.code for function in apart(inputs)]
        return [relative(*function) for function in zip(texts, encoded, values, strict=True)]


def relative(text: str, encoded: Encoded, values: Sequence[float]) -> Attributions:
    """Scale attributions to [0, 1] within a function, six decimals; special sub-tokens and layout marks have none."""
    ordinary = [
        (offset, value)
        for offset, value in zip(encoded.offsets, values, strict=True)
        if offset[0] < offset[1] and text[slice(*offset)] not in MARKS
    ]
    if not ordinary:
        return Attributions([], [])
    low, high = min(value for _, value in ordinary), max(value for _, value in ordinary)
    width = high - low
    scores = [round((value - low) / width, 6) if width else 0.0 for _, value in ordinary]
    return Attributions([span for span, _ in ordinary], scores)


def masked(text: str, spans: Sequence[tuple[int, int]], mask: str) -> str:
    """Replace each span by ``mask``, with the space before it, which would otherwise become a sub-token of its own."""
    for start, end in reversed(spans):
        text = text[: start - (text[start - 1 : start] == " ")] + mask + text[end:]
    return text


def build(view: DefenderView, settings: AttDefSettings, seed: int) -> AttDef:
    """Load the helper ``discriminator`` and calibrate on ``view.clean`` (the clean validation split)."""
    return AttDef(view, Discriminator(*load_helper(view, "discriminator", REPLACED)), settings, seed)
