"""Settings of EliBadCode."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import ReadWhere, Reference
from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings
from codebackdoor.defenses.elimination.inversion.settings import GreedySearchSettings, Judged, Searched
from codebackdoor.defenses.elimination.settings import Heads
from codebackdoor.heads import HEADS


class EliBadCodeSettings(GreedySearchSettings, CalibratedSettings):
    """Trigger inversion, anchoring and unlearning (Sun et al. 2025, section 4)."""

    label: ClassVar[str] = "EliBadCode"
    reference: ClassVar[Reference | None] = Reference(
        authors="Weisong Sun et al.",
        year=2025,
        title="Eliminating Backdoors in Neural Code Models for Secure Code Understanding",
        url="https://doi.org/10.1145/3715782",
    )
    read_where: ClassVar[ReadWhere] = {
        **GreedySearchSettings.read_where,
        **CalibratedSettings.read_where,
        "word_length": ("head", ("retrieval",)),
        "target_word": ("head", ("retrieval",)),
    }
    shipped: ClassVar[Path | None] = Path(__file__).parent / "calibrations"

    method: Literal["elibadcode"]
    word_length: Searched[int] = Field(
        default=2,
        gt=0,
        description="words of the target that is inverted together with the trigger, m (released code: 2); retrieval "
        "only",
    )
    target_word: Searched[str | None] = Field(
        default=None,
        min_length=1,
        description="the target word, if the defender knows it: only the trigger is inverted, on clean queries that "
        "contain the word (released code: file); null: word and trigger are searched together (Algorithm 2); "
        "retrieval only",
    )
    beta: Judged[float] = Field(
        default=0.15, ge=0, description="change of the loss above which a token is anchored (paper: 0.15)"
    )

    def works_on(self) -> Heads:
        """A dual encoder has neither classes nor a target label, which some ways of unlearning need."""
        by_label = self.unlearning.classes == "victim" or self.unlearning.labels == "ascent"
        return tuple(head for head in self.fits if HEADS[head].predicts_label or not by_label)

    def scans(self, inverted: bool) -> int:
        # one more scan after unlearning; more than one trigger is rarely unlearned
        return super().scans(inverted) + (self.rounds > 1)
