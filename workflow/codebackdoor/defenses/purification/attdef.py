"""AttDef: what carries the prediction of an input that looks tampered with is masked (Li et al. 2023).

A replaced-token discriminator says of each function whether it was tampered with. If so, the victim's prediction is
attributed to its sub-tokens, and those whose attribution, scaled to [0, 1] within the function, reaches a threshold are
masked: the highest always does. That threshold is as low as a loss of two points on clean validation rows lets it be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from codebackdoor.config.purifications import AttDef as Settings
from codebackdoor.defenses.purification import attribution, calibration
from codebackdoor.defenses.purification.functions import apart, together
from codebackdoor.defenses.purification.helpers import REPLACED, load_helper
from codebackdoor.defenses.purification.performance import performance
from codebackdoor.defenses.purification.replaced import Discriminator
from codebackdoor.defenses.views import DefenderView
from codebackdoor.syntax.lexing import MARKS
from codebackdoor.types import Example, Purified, Span
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Encoded

Places = list[tuple[int, int]]
#: Thresholds in the order in which Li et al.'s code tries them.
TRIED = [hundredths / 100 for hundredths in range(99, 10, -1)]


@dataclass(frozen=True, slots=True)
class Scored:
    """Sub-tokens of a function, as character spans, and the relative attribution of each."""

    places: Places
    scores: list[float]


@dataclass(frozen=True, slots=True)
class Assessed:
    """A function, the discriminator's suspicion of it, and its sub-tokens' attributions where that is high enough."""

    function: Example
    suspicion: float
    scored: Scored | None


class AttDef:
    """A calibrated purifier; ``suspicion`` is a probability, ``threshold`` a relative attribution."""

    def __init__(self, view: DefenderView, discriminator: Discriminator, settings: Settings, seed: int) -> None:
        self._view, self._discriminator = view, discriminator
        self._points = [1.0] if settings.attribution == "gradient_input" else attribution.midpoints(settings.steps)
        self.mask, self._mask_id = stand_in(view.victim.tokenizer, "mask")
        clean = calibration.drawn(view.clean, settings.calibration_inputs, seed)
        if settings.suspected_share is None:
            self.suspicion = settings.suspicion
        else:
            suspicions = discriminator.suspicions([function.code for function in apart(clean)])
            self.suspicion = calibration.highest(suspicions, settings.suspected_share)
        if settings.threshold is not None:
            self.threshold = settings.threshold
        elif settings.masked_share is not None:
            scores = [score for scored in self.score(clean) for score in scored.scores]
            self.threshold = calibration.highest(scores, settings.masked_share)
        else:
            self.threshold = self._affordable(clean, settings.lost_points)

    def _affordable(self, clean: Sequence[Example], points: float) -> float:
        """The last threshold, going down, before the first that costs more points on labeled clean rows."""
        measure, functions = performance(self._view.victim, clean), self._assess(clean)
        undefended, threshold = measure.points(clean), TRIED[0]
        for tried in TRIED:
            rows = together(clean, [self._masked(function, tried) for function in functions])
            if round(undefended - measure.points([row.example for row in rows]), 6) > points:
                break
            threshold = tried
        return threshold

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        """Mask the sub-tokens that reach the threshold in every function that the discriminator calls tampered with.

        ``detail`` of a result holds the discriminator's suspicion with its threshold, the verdict, the attribution's
        threshold (None: infinite) and the masked sub-tokens with their attributions, rounded to six decimals.
        """
        return together(inputs, [self._masked(function, self.threshold) for function in self._assess(inputs)])

    def _assess(self, inputs: Sequence[Example]) -> list[Assessed]:
        """Every function of the inputs, in order; what the discriminator does not suspect has no attributions."""
        functions = apart(inputs)
        suspicions = self._discriminator.suspicions([function.code for function in functions])
        suspect = [suspicion > self.suspicion for suspicion in suspicions]
        # a pair is read as a whole where one of its functions is suspect
        owners = [number for number, example in enumerate(inputs) for _ in apart([example])]
        read = sorted({owner for owner, is_suspect in zip(owners, suspect, strict=True) if is_suspect})
        scored = iter(self.score([inputs[number] for number in read]))
        judged = set(read)
        scores = [next(scored) if owner in judged else None for owner in owners]
        return [
            Assessed(function, suspicion, score if is_suspect else None)
            for function, score, is_suspect, suspicion in zip(functions, scores, suspect, suspicions, strict=True)
        ]

    def _masked(self, assessed: Assessed, threshold: float) -> Purified:
        function, scored = assessed.function, assessed.scored or Scored([], [])
        reached = [
            (place, score) for place, score in zip(scored.places, scored.scores, strict=True) if score >= threshold
        ]
        detail = {
            "suspicion": assessed.suspicion,
            "suspicion_threshold": calibration.finite(self.suspicion),
            "poisoned": assessed.scored is not None,
            "threshold": calibration.finite(threshold),
            "masked": [[function.code[start:end], score] for (start, end), score in reached],
        }
        places = [place for place, _ in reached]
        code = masked(function.code, places, self.mask)
        return Purified(replace(function, code=code), tuple(Span(*place) for place in places), detail)

    def score(self, inputs: Sequence[Example]) -> list[Scored]:
        """Relative attributions of the sub-tokens of every function of the inputs, suspect or not, in order."""
        victim = self._view.victim
        rows, places = victim.read(inputs), attribution.functions(victim)
        encoded = [row[place] for row in rows for place in places]
        values = [own for row in attribution.attributions(victim, rows, self._mask_id, self._points) for own in row]
        texts = [one.code for one in apart(inputs)]
        return [relative(text, one, own) for text, one, own in zip(texts, encoded, values, strict=True)]


def relative(text: str, encoded: Encoded, values: Sequence[float]) -> Scored:
    """Scale attributions to [0, 1] within a function, six decimals; special sub-tokens and layout marks have none."""
    own = [
        (offset, value)
        for offset, value in zip(encoded.offsets, values, strict=True)
        if offset[0] < offset[1] and text[slice(*offset)] not in MARKS
    ]
    if not own:
        return Scored([], [])
    low, high = min(value for _, value in own), max(value for _, value in own)
    width = high - low
    return Scored([place for place, _ in own], [round((value - low) / width, 6) if width else 0.0 for _, value in own])


def masked(text: str, places: Sequence[tuple[int, int]], mask: str) -> str:
    """Write ``mask`` for each place, and for the space before it, which would become a sub-token of its own."""
    for start, end in reversed(places):
        text = text[: start - (text[start - 1 : start] == " ")] + mask + text[end:]
    return text


def build(view: DefenderView, settings: Settings, seed: int) -> AttDef:
    """Load the helper ``discriminator`` and calibrate on ``view.clean`` (the clean validation split)."""
    return AttDef(view, Discriminator(*load_helper(view, "discriminator", REPLACED)), settings, seed)
