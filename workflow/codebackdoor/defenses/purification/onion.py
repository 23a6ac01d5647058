"""ONION: words that make a text unlikely are dropped (Qi et al. 2021, section 3; ledger E16, E24, D12).

A word's suspicion is the perplexity of the text minus the perplexity without the word. A word of lexed text is a
token of the lexer, of raw text whatever stands between white space; layout marks always stay.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from codebackdoor import syntax
from codebackdoor.config.purifications import Onion as Settings
from codebackdoor.defenses.purification import calibration
from codebackdoor.defenses.purification.functions import apart, together
from codebackdoor.defenses.purification.helpers import CAUSAL, load_helper
from codebackdoor.defenses.purification.perplexity import Words, surprises
from codebackdoor.defenses.purification.pieces import split
from codebackdoor.defenses.views import TextView
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Purified, Span, TextForm


@dataclass(frozen=True, slots=True)
class Scored:
    """Words of a text, and by how much the perplexity falls without each; ``drops`` is NaN where it cannot be said."""

    perplexity: float
    words: list[tuple[int, int]]
    drops: list[float]


class Onion:
    """A calibrated purifier of functions; ``threshold`` is a drop of the perplexity."""

    def __init__(self, view: TextView, model: Any, tokenizer: Any, settings: Settings, seed: int) -> None:
        self._form: TextForm = view.text_form
        self._model, self._tokenizer = model, tokenizer
        if settings.threshold is None:
            clean = calibration.drawn(view.clean, settings.calibration_inputs, seed)
            drops = [drop for scored in self.score(apart(clean)) for drop in scored.drops if not math.isnan(drop)]
            self.threshold = calibration.highest(drops, settings.removed_share)
        else:
            self.threshold = settings.threshold

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        """Drop every word whose removal lowers the perplexity by more than the threshold.

        ``detail`` of a result holds the perplexity, the threshold (None: infinite) and the dropped words with their
        drops, rounded to six decimals. Each function of a pair is judged by itself.
        """
        functions, found = apart(inputs), []
        for example, scored in zip(functions, self.score(functions), strict=True):
            out = [
                (place, drop) for place, drop in zip(scored.words, scored.drops, strict=True) if drop > self.threshold
            ]
            detail = {
                "perplexity": round(scored.perplexity, 6),
                "threshold": calibration.finite(round(self.threshold, 6)),
                "dropped": [[example.code[start:end], round(drop, 6)] for (start, end), drop in out],
            }
            places = [place for place, _ in out]
            code = without(example.code, places)
            found.append(Purified(replace(example, code=code), tuple(Span(*place) for place in places), detail))
        return together(inputs, found)

    def score(self, inputs: Sequence[Example]) -> list[Scored]:
        """Score the words of each ``code``; those beyond the language model's length have no score and always stay.

        A function of many pairs is read once.
        """
        once = {example.code: example for example in inputs}
        scored = dict(zip(once, self._score(list(once.values())), strict=True))
        return [scored[example.code] for example in inputs]

    def _score(self, inputs: Sequence[Example]) -> list[Scored]:
        room = min(int(self._model.config.max_position_embeddings), int(self._tokenizer.model_max_length)) - 1
        start = self._tokenizer.bos_token_id
        if start is None:
            raise UserError("the language model's tokenizer has no token for the beginning of a text")
        places: list[list[tuple[int, int]]] = []
        texts: list[Words] = []
        for example, pieces in zip(inputs, split(self._tokenizer, [example.code for example in inputs]), strict=True):
            ids = pieces.ids[:room]
            own = [(place, pieces.covered(*place)) for place in words(example, self._form)]
            own = [(place, (low, high)) for place, (low, high) in own if low < high <= len(ids)]
            places.append([place for place, _ in own])
            texts.append(Words([start, *ids], [(low + 1, high + 1) for _, (low, high) in own]))
        return [
            Scored(surprise.whole, own, [surprise.whole - value for value in surprise.without])
            for own, surprise in zip(places, surprises(self._model, texts), strict=True)
        ]


def words(example: Example, form: TextForm) -> list[tuple[int, int]]:
    """Character spans of what may be dropped."""
    if form == "raw":
        return [found.span() for found in re.finditer(r"\S+", example.code)]
    tokens = syntax.parse(example.code, example.language, form).tokens()
    return [(token.start, token.end) for token in tokens if token.kind != "mark"]


def without(text: str, places: Sequence[tuple[int, int]]) -> str:
    """Cut out words, each with the space after it, or the one before it where it ends its line."""
    for start, end in reversed(places):
        if text[end : end + 1] == " ":
            end += 1
        elif text[start - 1 : start] == " ":
            start -= 1
        text = text[:start] + text[end:]
    return text


def build(view: TextView, settings: Settings, seed: int) -> Onion:
    """Load the helper ``language_model`` and calibrate the threshold on ``view.clean`` (the clean validation split)."""
    return Onion(view, *load_helper(view, "language_model", CAUSAL), settings, seed)
