"""ONION on training rows: a row with a word that makes it unlikely is dropped (EliBadCode, section 5.1; ledger E24).

The suspicion of a row is the largest drop of the perplexity when one of its words is left out, as ONION scores words of
inputs (Qi et al. 2021, section 3); for a pair, the larger one of its two functions. The query is read if the task reads
nothing else; targets are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from codebackdoor import syntax
from codebackdoor.defenses import thresholds
from codebackdoor.defenses.filtering import Judged
from codebackdoor.defenses.filtering.onion.settings import OnionFilterSettings
from codebackdoor.defenses.helpers import CAUSAL, load_helper
from codebackdoor.defenses.inputs.functions import apart
from codebackdoor.defenses.suspicion.word_scores import WordDrops, WordScorer
from codebackdoor.defenses.views import TextView, TrainingRow
from codebackdoor.errors import UserError
from codebackdoor.types import Example


@dataclass(frozen=True, slots=True)
class Suspect:
    """The word of a row whose removal lowers its function's perplexity most, and by how much.

    ``drop`` is minus infinity if no word has a score: such a row is never dropped.
    """

    word: str = ""
    drop: float = -math.inf


class OnionFilter:
    """A calibrated filter; ``threshold`` is a drop of the perplexity, and ``scorer`` scores the words.

    Raises UserError if no clean sample has a word with a score to calibrate on.
    """

    def __init__(self, view: TextView, scorer: WordScorer, settings: OnionFilterSettings, seed: int) -> None:
        self._view, self._scorer, self._settings = view, scorer, settings
        self.threshold, self.facts = thresholds.fixed_or_calibrated(
            settings.threshold, view.clean, settings.calibration_inputs, seed, self._calibrated
        )

    def _calibrated(self, clean: Sequence[Example]) -> float:
        drops = [suspect.drop for suspect in self.suspects(clean)]
        if not any(map(math.isfinite, drops)):
            raise UserError(
                f"no word of {len(drops)} clean samples has a score, so there is nothing to calibrate on; supply other "
                "samples, or set `threshold`"
            )
        return thresholds.highest(drops, self._settings.dropped_share)

    def judge(self, rows: Sequence[TrainingRow]) -> list[Judged]:
        """Drop every row whose suspicion is above the threshold.

        ``detail`` holds the suspicion, rounded to six decimals (None: no word has a score), and its word.
        """
        suspects = self.suspects([row.example(self._view.language) for row in rows])
        return [
            Judged(
                row.id,
                suspect.drop > self.threshold,
                {"suspicion": thresholds.finite(round(suspect.drop, 6)), "word": suspect.word},
            )
            for row, suspect in zip(rows, suspects, strict=True)
        ]

    def suspects(self, examples: Sequence[Example]) -> list[Suspect]:
        """The most suspicious word of each example, in order; a function that occurs in many pairs is scored once."""
        functions = apart(examples)
        scored = self._scorer.score(functions)
        suspects = (self._worst(*function) for function in zip(functions, scored, strict=True))
        return [
            next(suspects) if example.code_b is None else _larger((next(suspects), next(suspects)))
            for example in examples
        ]

    def _worst(self, function: Example, scored: WordDrops) -> Suspect:
        """Of one function; words without a score, such as those beyond the language model's length, are ignored."""
        has_name = self._has_name(function) if self._settings.words == "identifiers" else None
        return _larger(
            Suspect(str(getattr(function, self._view.words_in))[slice(*span)], drop)
            for span, drop in zip(scored.words, scored.drops, strict=True)
            if not math.isnan(drop) and (has_name is None or has_name(span))
        )

    def _has_name(self, function: Example) -> Callable[[tuple[int, int]], bool]:
        tree = syntax.parse(function.code, function.language, self._view.text_form)
        return lambda span: any(token.kind == "identifier" for token in tree.tokens_in(*span))


def _larger(suspects: Iterable[Suspect]) -> Suspect:
    return max(suspects, key=lambda suspect: suspect.drop, default=Suspect())


def build(view: TextView, settings: OnionFilterSettings, seed: int) -> OnionFilter:
    """Load the helper ``language_model`` and calibrate the threshold on ``view.clean``."""
    if settings.words == "identifiers" and view.words_in == "query":
        raise UserError("words: a query has no identifiers; write `words: all`")
    scorer = WordScorer(view, *load_helper(view, "language_model", CAUSAL))
    return OnionFilter(view, scorer, settings, seed)
