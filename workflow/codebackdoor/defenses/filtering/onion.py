"""ONION on training rows: a row with a word that makes it unlikely is dropped (EliBadCode, section 5.1; ledger E24).

Suspicion of a row is the largest fall of the perplexity by leaving out one of its words, as ONION scores words of
inputs (Qi et al. 2021, section 3); of a pair, the larger of its two functions'. Queries and targets are not read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from codebackdoor import syntax
from codebackdoor.config.filterings import OnionFilter as Settings
from codebackdoor.config.purifications import Onion
from codebackdoor.defenses.filtering import Judged
from codebackdoor.defenses.purification import calibration, onion
from codebackdoor.defenses.purification.functions import apart
from codebackdoor.defenses.views import TextView, TrainingRow
from codebackdoor.errors import UserError
from codebackdoor.types import Example


@dataclass(frozen=True, slots=True)
class Suspect:
    """The word of a row without which its function's perplexity falls most, and by how much.

    ``drop`` is minus infinity where no word has a score: such a row is never dropped.
    """

    word: str = ""
    drop: float = -math.inf


class OnionRows:
    """A calibrated filter; ``threshold`` is a drop of the perplexity, and ``scorer`` gives every word its own.

    Raises UserError where no clean sample has a word with a score to calibrate on.
    """

    def __init__(self, view: TextView, scorer: onion.Onion, settings: Settings, seed: int) -> None:
        self._view, self._scorer, self._words = view, scorer, settings.words
        clean: list[Example] = []
        if settings.threshold is None:
            clean = calibration.drawn(view.clean, settings.calibration_inputs, seed)
            drops = [suspect.drop for suspect in self.suspects(clean)]
            if not any(map(math.isfinite, drops)):
                raise UserError(
                    f"no word of {len(drops)} clean samples has a score, so that they tell no threshold; give others, "
                    "or the setting threshold"
                )
            self.threshold = calibration.highest(drops, settings.dropped_share)
        else:
            self.threshold = settings.threshold
        self._calibrated_on = len(clean)

    @property
    def facts(self) -> Mapping[str, object]:
        """``threshold`` (None: infinite), and the clean samples that it was calibrated on (0: it was given)."""
        return {
            "threshold": calibration.finite(round(self.threshold, 6)),
            "calibration_inputs": self._calibrated_on,
        }

    def judge(self, rows: Sequence[TrainingRow]) -> list[Judged]:
        """Drop every row whose suspicion is above the threshold.

        ``detail`` holds the suspicion, rounded to six decimals (None: no word has a score), and its word.
        """
        suspects = self.suspects([Example(row.id, self._view.language, row.code, row.code_b) for row in rows])
        return [
            Judged(
                row.id,
                suspect.drop > self.threshold,
                {"suspicion": calibration.finite(round(suspect.drop, 6)), "word": suspect.word},
            )
            for row, suspect in zip(rows, suspects, strict=True)
        ]

    def suspects(self, examples: Sequence[Example]) -> list[Suspect]:
        """The most suspicious word of each example, in order; a function of many pairs is read once."""
        functions = apart(examples)
        scored = self._scorer.score(functions)
        found = (self._worst(*one) for one in zip(functions, scored, strict=True))
        return [next(found) if example.code_b is None else _larger((next(found), next(found))) for example in examples]

    def _worst(self, function: Example, scored: onion.Scored) -> Suspect:
        """Of a function; a word without a score, such as one beyond the language model's length, says nothing."""
        named = self._names(function) if self._words == "identifiers" else None
        return _larger(
            Suspect(function.code[slice(*place)], drop)
            for place, drop in zip(scored.words, scored.drops, strict=True)
            if not math.isnan(drop) and (named is None or named(place))
        )

    def _names(self, function: Example) -> Callable[[tuple[int, int]], bool]:
        tree = syntax.parse(function.code, function.language, self._view.text_form)
        return lambda place: any(token.kind == "identifier" for token in tree.tokens_in(*place))


def _larger(suspects: Iterable[Suspect]) -> Suspect:
    return max(suspects, key=lambda one: one.drop, default=Suspect())


def build(view: TextView, settings: Settings, seed: int) -> OnionRows:
    """Load the helper ``language_model`` and calibrate the threshold on ``view.clean``."""
    # with a threshold it calibrates nothing; its scores alone are asked for
    scorer = onion.build(view, Onion.model_validate({"method": "onion", "threshold": 0.0}), seed)
    return OnionRows(view, scorer, settings, seed)
