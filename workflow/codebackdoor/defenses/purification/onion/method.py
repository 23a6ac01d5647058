"""ONION drops words that make a text unlikely (Qi et al. 2021, section 3; ledger E16, E24, D12).

``suspicion.word_scores`` says what a word is and how suspicious it is. Layout marks always stay. For a task that reads
a query and no code, the query is cleaned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from codebackdoor.defenses import thresholds
from codebackdoor.defenses.helpers import CAUSAL, load_helper
from codebackdoor.defenses.inputs.functions import apart, together
from codebackdoor.defenses.inputs.words import cut_spans, cut_words
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.suspicion.word_scores import WordDrops, WordScorer
from codebackdoor.defenses.views import TextView
from codebackdoor.types import Example, Field, Purified, Span

#: Runs the victim, and only for ``lost_points`` (``OnionSettings.more_code``).
AFFORDABLE = "codebackdoor.defenses.purification.onion.affordable"


class Onion:
    """A calibrated purifier of functions, or of queries.

    ``scorer`` scores their words; ``threshold`` is a drop of the perplexity.
    """

    def __init__(self, view: TextView, model: Any, tokenizer: Any, settings: OnionSettings, seed: int) -> None:
        self._field: Field = view.words_in
        self.scorer = WordScorer(view, model, tokenizer)
        if settings.threshold is None:
            clean = thresholds.drawn(view.clean, settings.calibration_inputs, seed)
            scored = self.scorer.score(apart(clean))
            drops = [drop for function in scored for drop in function.drops if not math.isnan(drop)]
            if settings.lost_points is None:
                self.threshold = thresholds.highest(drops, settings.removed_share)
            else:
                self.threshold = self._affordable(view, clean, scored, drops, settings.lost_points)
        else:
            self.threshold = settings.threshold

    def _affordable(
        self, view: TextView, clean: Sequence[Example], scored: Sequence[WordDrops], drops: Sequence[float], lost: float
    ) -> float:
        def shortened(threshold: float) -> list[Example]:
            functions = zip(apart(clean), scored, strict=True)
            rows = together(clean, [self._dropped(function, words, threshold) for function, words in functions])
            return [row.example for row in rows]

        return float(import_module(AFFORDABLE).threshold(view, clean, drops, lost, shortened))

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        """Drop every word whose removal lowers the perplexity by more than the threshold.

        ``detail`` of a result holds the perplexity, the threshold (None: infinite) and the dropped words with their
        drops, rounded to six decimals. Each function of a pair is scored by itself.
        """
        functions = apart(inputs)
        scores = self.scorer.score(functions)
        purified = [
            self._dropped(function, scored, self.threshold) for function, scored in zip(functions, scores, strict=True)
        ]
        return together(inputs, purified)

    def remove(self, text: str, spans: Sequence[tuple[int, int]]) -> str:
        return cut_spans(text, spans)

    def _dropped(self, example: Example, scored: WordDrops, threshold: float) -> Purified:
        text = str(getattr(example, self._field))
        dropped = [(span, drop) for span, drop in zip(scored.words, scored.drops, strict=True) if drop > threshold]
        detail = {
            "perplexity": round(scored.perplexity, 6),
            "threshold": thresholds.finite(round(threshold, 6)),
            "dropped": [[text[start:end], round(drop, 6)] for (start, end), drop in dropped],
        }
        spans = [span for span, _ in dropped]
        shortened = cut_words(text, spans)
        rewritten = replace(example, query=shortened) if self._field == "query" else replace(example, code=shortened)
        return Purified(rewritten, tuple(Span(*span, self._field) for span in spans), detail)


def build(view: TextView, settings: OnionSettings, seed: int) -> Onion:
    """Load the language model and calibrate the threshold on ``view.clean`` (the clean validation split)."""
    [helper] = settings.helpers
    return Onion(view, *load_helper(view, helper, CAUSAL), settings, seed)
