"""Settings of EliBadCode, and where the calibrations of its label scan are."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Head, ReadWhere, Reference
from codebackdoor.config.paths import CalibrationPath
from codebackdoor.costs.work import EliminationJob, Work
from codebackdoor.defenses.elimination.inversion.settings import (
    Afterwards,
    GreedySearchSettings,
    InversionSettings,
    Judged,
    Searched,
    UnlearningSettings,
)
from codebackdoor.defenses.elimination.settings import Heads
from codebackdoor.heads import HEADS

#: The calibrations that ship with the package; the setting ``calibration`` names one by its stem.
CALIBRATIONS = Path(__file__).parent / "calibrations"


def calibration_of(name: str | None, dataset: str, model: str) -> str | None:
    """The setting ``calibration`` for the variants of one scenario."""
    return None if name is None else name.replace("{dataset}", dataset).replace("{model}", model)


def calibration_file(name: str) -> Path:
    """The file that the setting ``calibration`` means: one that ships with the package, or a path."""
    shipped = CALIBRATIONS / f"{name}.json"
    return shipped if shipped.is_file() else Path(name)


class EliBadCodeSettings(GreedySearchSettings):
    """Trigger inversion, anchoring and unlearning (Sun et al. 2025, section 4)."""

    label: ClassVar[str] = "EliBadCode"
    reference: ClassVar[Reference | None] = Reference(
        authors="Weisong Sun et al.",
        year=2025,
        title="Eliminating Backdoors in Neural Code Models for Secure Code Understanding",
        url="https://doi.org/10.1145/3715782",
    )
    threshold_meaning: ClassVar[str | None] = (
        "flags a label where its inverted loss is at most `ratio` times the lowest loss of a benign shadow"
    )
    read_where: ClassVar[ReadWhere] = {
        **InversionSettings.read_where,
        "ratio": ("calibration", ()),
        "word_length": ("head", ("retrieval",)),
        "target_word": ("head", ("retrieval",)),
        "unlearn_when_clean": ("calibration", ()),
        "rounds": ("calibration", ()),
    }

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
    calibration: Judged[CalibrationPath | None] = Field(
        default=None,
        description="losses that benign victims reach in the same search: name of a shipped calibration, or path of a "
        "JSON file, in which {dataset} and {model} stand for the scenario's; null: the label of the smallest loss is "
        "always flagged, never 'clean' (released code)",
    )
    ratio: Judged[float] = Field(
        default=0.5,
        gt=0,
        le=1,
        description="a label is flagged when its loss is at most this share of the lowest loss of a benign shadow",
    )
    unlearn_when_clean: Afterwards[bool | Literal["retrieval"]] = Field(
        default=False,
        description="unlearn the most suspicious trigger although the scan says 'clean' (paper, Table 4); retrieval: "
        "only in code search, where the paper has no verdict",
    )
    rounds: Afterwards[int] = Field(
        default=1,
        gt=0,
        description="most triggers that are unlearned one after another. 1: the one that the scan flags (paper). More: "
        "after each the edited victim is scanned with fresh seeds, until a scan says 'clean'",
    )
    unlearning: Afterwards[UnlearningSettings] = Field(default=UnlearningSettings(), description="phase (d)")

    def works_on(self) -> Heads:
        """A dual encoder has neither classes nor a target label, which some ways of unlearning need."""
        by_label = self.unlearning.classes == "victim" or self.unlearning.labels == "ascent"
        return tuple(head for head in self.fits if HEADS[head].predicts_label or not by_label)

    def unlearns(self, flagged: bool, head: Head) -> bool:
        return flagged or self.unlearn_when_clean is True or self.unlearn_when_clean == head

    def work(self, job: EliminationJob) -> Work:
        return self.search_work(job.victim, job.inverted) + self._unlearning_work(job.victim, self.unlearning)

    def scans(self, inverted: bool) -> int:
        # the scan after an unlearning; seldom is more than one trigger unlearned
        return super().scans(inverted) + (self.rounds > 1)
