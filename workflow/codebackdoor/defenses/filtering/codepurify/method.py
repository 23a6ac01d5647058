"""CodePurify on training rows: a row whose suspicion scores have a low entropy is dropped (ledger P35).

CodePurify scores the elements of test inputs (Mu et al. 2024, section III-A). Here the inputs are training rows, and
the victim was trained on all of them: for a row with the trigger, its prediction depends only on the trigger. The label
of the row is not used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from codebackdoor.defenses import thresholds
from codebackdoor.defenses.filtering import Judged
from codebackdoor.defenses.filtering.codepurify.settings import CodePurifyFilterSettings
from codebackdoor.defenses.helpers import MASKED, load_helper
from codebackdoor.defenses.suspicion.profile import Profile, profiles_of
from codebackdoor.defenses.suspicion.scoring import DIGITS, ElementScores
from codebackdoor.defenses.views import TrainingRow, TrainingView
from codebackdoor.errors import UserError
from codebackdoor.types import Example


class CodePurifyFilter:
    """A calibrated filter; ``threshold`` is an entropy in the unit of the settings' normalization.

    Raises UserError if no clean sample has an entropy to calibrate on.
    """

    def __init__(
        self, view: TrainingView, source: ElementScores, settings: CodePurifyFilterSettings, seed: int
    ) -> None:
        self._language, self._source, self._settings = view.language, source, settings
        self.threshold, self.facts = thresholds.fixed_or_calibrated(
            settings.threshold, view.clean, settings.calibration_inputs, seed, self._calibrated
        )

    def _calibrated(self, clean: Sequence[Example]) -> float:
        entropies = [math.inf if profile.entropy is None else profile.entropy for profile in self.profiles(clean)]
        if not any(map(math.isfinite, entropies)):
            raise UserError(
                f"none of {len(clean)} clean samples has two elements whose scores have an entropy, so there is "
                "nothing to calibrate on; supply other samples, or set `threshold`"
            )
        return thresholds.lowest(entropies, self._settings.dropped_share)

    def judge(self, rows: Sequence[TrainingRow]) -> list[Judged]:
        """Drop every row whose entropy is below the threshold.

        ``detail`` holds minus the entropy as ``suspicion`` (None: the row has fewer than two elements), and the kind
        and text of the most suspicious element.
        """
        profiles = self.profiles([row.example(self._language) for row in rows])
        return [
            Judged(row.id, profile.is_concentrated(self.threshold), _detail(profile))
            for row, profile in zip(rows, profiles, strict=True)
        ]

    def profiles(self, inputs: Sequence[Example]) -> list[Profile]:
        return profiles_of(self._source.evidence(inputs), inputs, self._settings)


def _detail(profile: Profile) -> Mapping[str, object]:
    suspicion = None if profile.entropy is None else round(-profile.entropy, DIGITS)
    if not profile.has_suspect:
        return {"suspicion": suspicion, "kind": None, "element": None}
    _, element = profile.suspect.parts[0]
    return {"suspicion": suspicion, "kind": element.kind, "element": element.text}


def build(view: TrainingView, settings: CodePurifyFilterSettings, seed: int) -> CodePurifyFilter:
    """Calibrate the threshold on ``view.clean``; the tokenizer of the helper ``infiller`` says how many masks."""
    _, tokenizer = load_helper(view, "infiller", MASKED)
    return CodePurifyFilter(view, ElementScores(view, tokenizer, settings), settings, seed)
