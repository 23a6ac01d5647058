"""CodePurify: entropy-based purification of inputs (Mu et al. 2024, sections III and IV-F).

Every identifier and every statement of an input is masked in turn; the change in the victim's confidence is the
element's suspicion score. If the scores are concentrated on few elements, their entropy is low: below a threshold
calibrated on clean inputs the most suspicious element counts as the trigger, and a masked language model fills in its
spans and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from codebackdoor import syntax
from codebackdoor.defenses import purification, thresholds
from codebackdoor.defenses.helpers import MASKED, load_helper
from codebackdoor.defenses.inputs.functions import CODE_FIELDS
from codebackdoor.defenses.inputs.parts import in_parts
from codebackdoor.defenses.purification.codepurify.infilling import Infiller
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.suspicion.profile import Profile, Scored, profiles_of
from codebackdoor.defenses.suspicion.scoring import DIGITS, ElementScores
from codebackdoor.defenses.views import DefenderView, TextView
from codebackdoor.types import Example, Purified, Span


class CodePurify:
    """A calibrated purifier; ``threshold`` is in the unit of the settings' normalization.

    ``source`` gives the suspicion scores: those of the victim, or those that an earlier job wrote.
    """

    def __init__(
        self,
        view: TextView,
        infiller: Infiller,
        settings: CodePurifySettings,
        seed: int,
        source: purification.EvidenceSource,
    ) -> None:
        self._form, self._infiller, self._settings = view.text_form, infiller, settings
        self.source = source
        self.threshold = self._calibrated(view.clean, seed) if settings.threshold is None else settings.threshold

    def _calibrated(self, clean: Sequence[Example], seed: int) -> float:
        """Infinite if fewer clean inputs have an entropy than may be touched: then every entropy is low."""
        profiles = self._profiles(thresholds.drawn(clean, self._settings.calibration_inputs, seed))
        entropies = [math.inf if profile.entropy is None else profile.entropy for profile in profiles]
        return thresholds.lowest(entropies, self._settings.touched_share)

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        """Replace the most suspicious element of every input whose entropy is below the threshold.

        ``detail`` holds the entropy, minus it as ``suspicion``, the threshold (None: infinite), the verdict,
        the most suspicious element with all its masked spans, and for every element its kind, its span (an
        identifier: the first occurrence) and its score; spans in the second function of a pair are marked. Numbers are
        rounded to six decimals, since the last bits depend on which inputs share a batch.
        """
        profiles = self._profiles(inputs)
        filled = self._filled(inputs, profiles)
        return [
            self._row(example, profile, filled.get(number, []))
            for number, (example, profile) in enumerate(zip(inputs, profiles, strict=True))
        ]

    def _profiles(self, inputs: Sequence[Example]) -> list[Profile]:
        return profiles_of(self.source.evidence(inputs), inputs, self._settings)

    def _is_poisoned(self, profile: Profile) -> bool:
        """Whether the scores are concentrated, or the settings purify every input (-E) of which an element matters."""
        return profile.is_concentrated(self.threshold) or (self._settings.purifies_all and profile.has_suspect)

    def _filled(self, inputs: Sequence[Example], profiles: Sequence[Profile]) -> dict[int, list[tuple[Span, str]]]:
        """New texts for the suspect spans, by the number of the input; each function of a pair is filled by itself."""
        parts = [
            (number, field, element)
            for number, profile in enumerate(profiles)
            if self._is_poisoned(profile)
            for field, element in profile.suspect.parts
        ]
        filled: dict[int, list[tuple[Span, str]]] = {}
        for batch in in_parts(parts, "codepurify: fill"):
            texts = [str(getattr(inputs[number], field)) for number, field, _ in batch]
            trees = [
                syntax.parse(text, inputs[number].language, self._form)
                for text, (number, _, _) in zip(texts, batch, strict=True)
            ]
            suspects = [element for _, _, element in batch]
            results = self._infiller.fill(trees, self._infiller.tokens(texts), suspects)
            for (number, field, element), words in zip(batch, results, strict=True):
                # a function without a legal filling stays as it is; its row says poisoned, and nothing touched
                spans = [] if words is None else [Span(start, end, field) for start, end in element.masked]
                filled.setdefault(number, []).extend(zip(spans, words or [], strict=True))
        return filled

    def _row(self, example: Example, profile: Profile, filled: Sequence[tuple[Span, str]]) -> Purified:
        texts = {field: getattr(example, field) for field in CODE_FIELDS}
        for field in CODE_FIELDS:
            words = [(span.start, span.end, text) for span, text in filled if span.field == field]
            if words:
                texts[field] = syntax.replace(texts[field], words).text
        changed = replace(example, code=texts["code"], code_b=texts["code_b"])
        return Purified(changed, tuple(span for span, _ in filled), self._detail(profile))

    def _detail(self, profile: Profile) -> dict[str, object]:
        return {
            "entropy": None if profile.entropy is None else round(profile.entropy, DIGITS),
            "suspicion": None if profile.entropy is None else round(-profile.entropy, DIGITS),
            "threshold": thresholds.finite(round(self.threshold, DIGITS)),
            "poisoned": self._is_poisoned(profile),
            "top": _top(profile.suspect) if profile.elements else None,
            "profile": [_outline(element) for element in profile.elements],
        }


def _top(suspect: Scored) -> Mapping[str, object]:
    _, element = suspect.parts[0]
    places = [[span.start, span.end, *_mark(span.field)] for span in suspect.masked]
    return {"kind": element.kind, "text": element.text, "score": suspect.score, "places": places}


def _outline(scored: Scored) -> list[object]:
    field, element = scored.parts[0]
    return [element.kind, *element.span, scored.score, *_mark(field)]


def _mark(field: str) -> list[str]:
    return [] if field == "code" else [field]


def source(view: DefenderView, settings: CodePurifySettings) -> ElementScores:
    """Load the helper ``infiller``, whose tokenizer decides how many masks an element gets."""
    _, tokenizer = load_helper(view, "infiller", MASKED)
    return ElementScores(view, tokenizer, settings)


def build(view: DefenderView, settings: CodePurifySettings, seed: int) -> CodePurify:
    """Load the helper ``infiller`` and calibrate the threshold on ``view.clean`` (the clean validation split)."""
    model, tokenizer = load_helper(view, "infiller", MASKED)
    infiller = Infiller(model, tokenizer)
    return CodePurify(view, infiller, settings, seed, ElementScores(view, tokenizer, settings))


def decider(view: TextView, settings: CodePurifySettings, seed: int, kept: purification.EvidenceSource) -> CodePurify:
    """As ``build``, by the scores of an earlier job."""
    return CodePurify(view, Infiller(*load_helper(view, "infiller", MASKED)), settings, seed, kept)
