"""CodePurify: entropy-based purification of inputs (Mu et al. 2024, sections III and IV-F).

Every identifier and every statement of an input is masked in turn; the change in the victim's confidence is the
element's suspicion score. If the scores are concentrated on few elements, their entropy is low: below a threshold
calibrated on clean inputs the most suspicious element counts as the trigger, and a masked language model fills in its
spans and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from codebackdoor import syntax
from codebackdoor.defenses.purification import calibration
from codebackdoor.defenses.purification.codepurify.infilling import Infiller
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.purification.codepurify.suspicion import Profile, profiles
from codebackdoor.defenses.purification.helpers import MASKED, load_helper
from codebackdoor.defenses.purification.token_spans import TokenSpans
from codebackdoor.defenses.views import DefenderView
from codebackdoor.syntax import Tree
from codebackdoor.types import Example, Purified, Span

#: Inputs whose masked versions are in memory at once.
INPUTS_AT_ONCE = 512


class CodePurify:
    """A calibrated purifier of ``Example.code``; ``threshold`` is in the unit of the settings' normalization."""

    def __init__(self, view: DefenderView, infiller: Infiller, settings: CodePurifySettings, seed: int) -> None:
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
        """Replace the most suspicious element of every input whose entropy is below the threshold.

        ``detail`` of a result holds the entropy, the threshold (None: infinite), the verdict, the most suspicious
        element with all its masked spans, and for every element its kind, its span (an identifier: the first
        occurrence) and its score. Numbers are rounded to six decimals, since the last bits depend on which inputs share
        a batch.
        """
        return [row for part in _parts(inputs, "purify") for row in self._purify(part)]

    def _assess(self, inputs: Sequence[Example]) -> _Assessments:
        trees = [syntax.parse(example.code, example.language, self._view.text_form) for example in inputs]
        tokens = self._infiller.tokens([example.code for example in inputs])
        return _Assessments(trees, tokens, profiles(self._view.victim, trees, tokens, self._settings))

    def _purify(self, inputs: Sequence[Example]) -> Iterator[Purified]:
        assessed = self._assess(inputs)
        poisoned = [index for index, profile in enumerate(assessed.profiles) if profile.poisoned(self.threshold)]
        filled = self._infiller.fill(
            [assessed.trees[index] for index in poisoned],
            [assessed.tokens[index] for index in poisoned],
            [assessed.profiles[index].suspect for index in poisoned],
        )
        new = {index: texts for index, texts in zip(poisoned, filled, strict=True) if texts is not None}
        for index, (example, profile) in enumerate(zip(inputs, assessed.profiles, strict=True)):
            # an input without a legal filling stays as it is; its row says poisoned, and nothing touched
            detail = self._detail(profile)
            if index not in new:
                yield Purified(example, detail=detail)
                continue
            spans = profile.suspect.masked
            edit = syntax.replace(
                example.code, [(start, end, text) for (start, end), text in zip(spans, new[index], strict=True)]
            )
            touched = tuple(Span(start, end) for start, end in spans)
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
                "places": [list(span) for span in profile.suspect.masked],
            },
            "profile": [
                [element.kind, *element.span, round(score, 6)]
                for element, score in zip(profile.elements, profile.scores, strict=True)
            ],
        }


@dataclass(frozen=True, slots=True)
class _Assessments:
    trees: list[Tree]
    tokens: list[TokenSpans]
    profiles: list[Profile]


def _parts(inputs: Sequence[Example], step: str) -> Iterator[Sequence[Example]]:
    with tqdm(total=len(inputs), desc=f"codepurify: {step}", unit="input", disable=None) as bar:
        for start in range(0, len(inputs), INPUTS_AT_ONCE):
            part = inputs[start : start + INPUTS_AT_ONCE]
            yield part
            bar.update(len(part))


def build(view: DefenderView, settings: CodePurifySettings, seed: int) -> CodePurify:
    """Load the helper ``infiller`` and calibrate the threshold on ``view.clean`` (the clean validation split)."""
    return CodePurify(view, Infiller(*load_helper(view, "infiller", MASKED)), settings, seed)
