"""AttDef: what carries the prediction of an input that looks tampered with is masked (Li et al. 2023).

A replaced-token discriminator says of each function whether it was tampered with. If so, the victim's prediction is
attributed to its sub-tokens, and those whose attribution, scaled to [0, 1] within the function, reaches a threshold are
masked: the highest always does. Both thresholds come from clean validation data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from codebackdoor.config.purifications import AttDef as Settings
from codebackdoor.defenses.purification import attribution, calibration
from codebackdoor.defenses.purification.functions import apart, together
from codebackdoor.defenses.purification.helpers import REPLACED, load_helper
from codebackdoor.defenses.purification.replaced import Discriminator
from codebackdoor.syntax.lexing import MARKS
from codebackdoor.types import DefenderView, Example, Purified, Span
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Encoded

Places = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Scored:
    """Sub-tokens of a function, as character spans, and the relative attribution of each."""

    places: Places
    scores: list[float]


class AttDef:
    """A calibrated purifier; ``suspicion`` is a probability, ``threshold`` a relative attribution."""

    def __init__(self, view: DefenderView, discriminator: Discriminator, settings: Settings, seed: int) -> None:
        self._view, self._discriminator = view, discriminator
        self._points = [1.0] if settings.attribution == "gradient_input" else attribution.midpoints(settings.steps)
        self.mask, self._mask_id = stand_in(view.victim.tokenizer, "mask")
        clean = calibration.drawn(view.clean, settings.calibration_inputs, seed)
        if settings.suspicion is None:
            suspicions = discriminator.suspicions([one.code for one in apart(clean)])
            self.suspicion = calibration.highest(suspicions, settings.suspected_share)
        else:
            self.suspicion = settings.suspicion
        if settings.threshold is None:
            scores = [score for scored in self.score(clean) for score in scored.scores]
            self.threshold = calibration.highest(scores, settings.masked_share)
        else:
            self.threshold = settings.threshold

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        """Mask the sub-tokens that reach the threshold in every function that the discriminator calls tampered with.

        ``detail`` of a result holds the discriminator's suspicion with its threshold, the verdict, the attribution's
        threshold (None: infinite) and the masked sub-tokens with their attributions, rounded to six decimals.
        """
        functions = apart(inputs)
        suspicions = self._discriminator.suspicions([one.code for one in functions])
        marked = [suspicion > self.suspicion for suspicion in suspicions]
        # a pair is read as a whole where one of its functions is suspect
        owners = [number for number, example in enumerate(inputs) for _ in apart([example])]
        asked = sorted({owner for owner, suspect in zip(owners, marked, strict=True) if suspect})
        scored = iter(self.score([inputs[number] for number in asked]))
        judged = set(asked)
        found = [next(scored) if owner in judged else None for owner in owners]
        rows = [
            self._masked(function, own if suspect else None, suspicion)
            for function, own, suspect, suspicion in zip(functions, found, marked, suspicions, strict=True)
        ]
        return together(inputs, rows)

    def _masked(self, function: Example, scored: Scored | None, suspicion: float) -> Purified:
        out = (
            []
            if scored is None
            else [
                (place, score)
                for place, score in zip(scored.places, scored.scores, strict=True)
                if score >= self.threshold
            ]
        )
        detail = {
            "suspicion": suspicion,
            "suspicion_threshold": calibration.finite(self.suspicion),
            "poisoned": scored is not None,
            "threshold": calibration.finite(self.threshold),
            "masked": [[function.code[start:end], score] for (start, end), score in out],
        }
        places = [place for place, _ in out]
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
