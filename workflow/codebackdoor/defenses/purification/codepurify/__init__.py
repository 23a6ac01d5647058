"""CodePurify: entropy-based purification of inputs (Mu et al. 2024, sections III and IV-F).

Every identifier and every statement of an input is masked in turn; how far that moves the victim's confidence is the
element's suspicion. Suspicion concentrated on few elements means low entropy: below a threshold calibrated on clean
inputs the most suspicious element counts as the trigger, and only its places are filled anew by a masked language
model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from codebackdoor import syntax
from codebackdoor.config.purifications import CodePurify as Settings
from codebackdoor.defenses.purification import calibration
from codebackdoor.defenses.purification.codepurify.infilling import Infiller
from codebackdoor.defenses.purification.codepurify.suspicion import Profile, profiles
from codebackdoor.defenses.purification.helpers import MASKED, load_helper
from codebackdoor.defenses.purification.pieces import Pieces
from codebackdoor.defenses.views import DefenderView
from codebackdoor.syntax import Tree
from codebackdoor.types import Example, Purified, Span

#: Inputs whose masked versions are held at once.
INPUTS_AT_ONCE = 512


class CodePurify:
    """A calibrated purifier of ``Example.code``; ``threshold`` is in the unit of the settings' normalisation."""

    def __init__(self, view: DefenderView, infiller: Infiller, settings: Settings, seed: int) -> None:
        self._view, self._infiller, self._settings = view, infiller, settings
        self.threshold = self._calibrated(seed) if settings.threshold is None else settings.threshold

    def _calibrated(self, seed: int) -> float:
        clean = calibration.drawn(self._view.clean, self._settings.calibration_inputs, seed)
        entropies = [
            math.inf if profile.entropy is None else profile.entropy
            for part in _parts(clean, "calibrate")
            for profile in self._assess(part).profiles
        ]
        return calibration.lowest(entropies, self._settings.touched_share)

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        """Fill the most suspicious element of every input whose entropy is below the threshold.

        ``detail`` of a result holds the entropy, the threshold (None: infinite), the verdict, the most suspicious
        element with all its places, and for every element its kind, its span (an identifier: the first occurrence)
        and its score. Numbers are rounded to six decimals, since the last bits depend on which inputs share a batch.
        """
        return [row for part in _parts(inputs, "purify") for row in self._purify(part)]

    def _assess(self, inputs: Sequence[Example]) -> _Assessed:
        trees = [syntax.parse(example.code, example.language, self._view.text_form) for example in inputs]
        pieces = self._infiller.pieces([example.code for example in inputs])
        return _Assessed(trees, pieces, profiles(self._view.victim, trees, pieces, self._settings))

    def _purify(self, inputs: Sequence[Example]) -> Iterator[Purified]:
        found = self._assess(inputs)
        marked = [index for index, profile in enumerate(found.profiles) if profile.poisoned(self.threshold)]
        filled = self._infiller.fill(
            [found.trees[index] for index in marked],
            [found.pieces[index] for index in marked],
            [found.profiles[index].suspect for index in marked],
        )
        new = {index: texts for index, texts in zip(marked, filled, strict=True) if texts is not None}
        for index, (example, profile) in enumerate(zip(inputs, found.profiles, strict=True)):
            # an input that is found poisoned but cannot be filled stays, and says so: poisoned, and nothing touched
            detail = self._detail(profile)
            if index not in new:
                yield Purified(example, detail=detail)
                continue
            places = profile.suspect.places
            edit = syntax.replace(
                example.code, [(start, end, text) for (start, end), text in zip(places, new[index], strict=True)]
            )
            touched = tuple(Span(start, end) for start, end in places)
            yield Purified(replace(example, code=edit.text), touched, detail)

    def _detail(self, profile: Profile) -> dict[str, object]:
        return {
            "entropy": None if profile.entropy is None else round(profile.entropy, 6),
            "threshold": calibration.finite(round(self.threshold, 6)),
            "poisoned": profile.poisoned(self.threshold),
            "top": None
            if not profile.elements
            else {
                "kind": profile.suspect.kind,
                "text": profile.suspect.text,
                "score": round(profile.scores[profile.top], 6),
                "places": [list(place) for place in profile.suspect.places],
            },
            "profile": [
                [element.kind, *element.span, round(score, 6)]
                for element, score in zip(profile.elements, profile.scores, strict=True)
            ],
        }


@dataclass(frozen=True, slots=True)
class _Assessed:
    trees: list[Tree]
    pieces: list[Pieces]
    profiles: list[Profile]


def _parts(inputs: Sequence[Example], what: str) -> Iterator[Sequence[Example]]:
    with tqdm(total=len(inputs), desc=f"codepurify: {what}", unit="input", disable=None) as bar:
        for start in range(0, len(inputs), INPUTS_AT_ONCE):
            part = inputs[start : start + INPUTS_AT_ONCE]
            yield part
            bar.update(len(part))


def build(view: DefenderView, settings: Settings, seed: int) -> CodePurify:
    """Load the helper ``infiller`` and calibrate the threshold on ``view.clean`` (the clean validation split)."""
    return CodePurify(view, Infiller(*load_helper(view, "infiller", MASKED)), settings, seed)
