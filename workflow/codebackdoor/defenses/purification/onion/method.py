"""ONION drops words that make a text unlikely (Qi et al. 2021, section 3; ledger E16, E24, D12).

The suspicion of a word is the perplexity of the text minus the perplexity without the word. In lexed text a word is a
token of the lexer; in raw text and natural language it is everything between white space. Layout marks always stay. For
a task that reads a query and no code, the query is cleaned.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from codebackdoor import syntax
from codebackdoor.defenses import thresholds
from codebackdoor.defenses.helpers import CAUSAL, load_helper
from codebackdoor.defenses.inputs.functions import apart, together
from codebackdoor.defenses.inputs.token_spans import split
from codebackdoor.defenses.inputs.words import cut_spans, cut_words
from codebackdoor.defenses.purification.onion.perplexity import TokenizedWords, surprises
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.views import TextView
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Field, Purified, Span, TextForm

#: Runs the victim, and only for ``lost_points`` (``OnionSettings.more_code``).
AFFORDABLE = "codebackdoor.defenses.purification.onion.affordable"


@dataclass(frozen=True, slots=True)
class WordDrops:
    """The words of a text, and how much the perplexity drops without each; NaN in ``drops`` if that is undefined."""

    perplexity: float
    words: list[tuple[int, int]]
    drops: list[float]


class Onion:
    """A calibrated purifier of functions, or of queries; ``threshold`` is a drop of the perplexity."""

    def __init__(self, view: TextView, model: Any, tokenizer: Any, settings: OnionSettings, seed: int) -> None:
        self._form: TextForm = view.text_form
        self._field: Field = view.words_in
        self._model, self._tokenizer = model, tokenizer
        if settings.threshold is None:
            clean = thresholds.drawn(view.clean, settings.calibration_inputs, seed)
            scored = self.score(apart(clean))
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
        scores = self.score(functions)
        purified = [
            self._dropped(function, scored, self.threshold) for function, scored in zip(functions, scores, strict=True)
        ]
        return together(inputs, purified)

    def remove(self, text: str, spans: Sequence[tuple[int, int]]) -> str:
        return cut_spans(text, spans)

    def _dropped(self, example: Example, scored: WordDrops, threshold: float) -> Purified:
        dropped = [(span, drop) for span, drop in zip(scored.words, scored.drops, strict=True) if drop > threshold]
        detail = {
            "perplexity": round(scored.perplexity, 6),
            "threshold": thresholds.finite(round(threshold, 6)),
            "dropped": [[self._text(example)[start:end], round(drop, 6)] for (start, end), drop in dropped],
        }
        spans = [span for span, _ in dropped]
        text = cut_words(self._text(example), spans)
        rewritten = replace(example, query=text) if self._field == "query" else replace(example, code=text)
        return Purified(rewritten, tuple(Span(*span, self._field) for span in spans), detail)

    def score(self, inputs: Sequence[Example]) -> list[WordDrops]:
        """Score the words of each text; words beyond the language model's maximum length have no score and stay.

        A function that occurs in many pairs is scored once.
        """
        distinct = {self._text(example): example for example in inputs}
        scored = dict(zip(distinct, self._score(list(distinct.values())), strict=True))
        return [scored[self._text(example)] for example in inputs]

    def _text(self, example: Example) -> str:
        return str(getattr(example, self._field))

    def _score(self, inputs: Sequence[Example]) -> list[WordDrops]:
        room = min(int(self._model.config.max_position_embeddings), int(self._tokenizer.model_max_length)) - 1
        start = self._tokenizer.bos_token_id
        if start is None:
            raise UserError("the language model's tokenizer has no beginning-of-text token; use another model")
        spans: list[list[tuple[int, int]]] = []
        texts: list[TokenizedWords] = []
        for example, tokens in zip(inputs, split(self._tokenizer, list(map(self._text, inputs))), strict=True):
            ids = tokens.ids[:room]
            scorable = [(span, tokens.covered(*span)) for span in words(example, self._form, self._field)]
            scorable = [(span, (low, high)) for span, (low, high) in scorable if low < high <= len(ids)]
            spans.append([span for span, _ in scorable])
            texts.append(TokenizedWords([start, *ids], [(low + 1, high + 1) for _, (low, high) in scorable]))
        return [
            WordDrops(surprise.of_text, text_spans, [surprise.of_text - value for value in surprise.without])
            for text_spans, surprise in zip(spans, surprises(self._model, texts), strict=True)
        ]


def words(example: Example, form: TextForm, field: Field = "code") -> list[tuple[int, int]]:
    """Character spans of the words of a field that may be dropped."""
    if field == "query" or form == "raw":
        return [match.span() for match in re.finditer(r"\S+", str(getattr(example, field)))]
    tokens = syntax.parse(example.code, example.language, form).tokens()
    return [(token.start, token.end) for token in tokens if token.kind != "mark"]


def build(view: TextView, settings: OnionSettings, seed: int) -> Onion:
    """Load the language model and calibrate the threshold on ``view.clean`` (the clean validation split)."""
    [helper] = settings.helpers
    return Onion(view, *load_helper(view, helper, CAUSAL), settings, seed)
