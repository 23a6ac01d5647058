"""Settings of CodePurify."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import ReadWhere
from codebackdoor.costs.work import PurificationJob, Work
from codebackdoor.defenses.purification.settings import CALIBRATING, EvidenceSettings
from codebackdoor.defenses.settings import Decided
from codebackdoor.defenses.suspicion.settings import ElementSettings


class CodePurifySettings(ElementSettings, EvidenceSettings):
    """Masks elements; if the entropy of their scores is low, infills the most suspicious one (Mu et al. 2024, III)."""

    label: ClassVar[str] = "CodePurify"
    threshold_meaning: ClassVar[str] = "rewrites an input if the entropy of its suspicion scores is below the threshold"
    read_where: ClassVar[ReadWhere] = {
        "touched_share": CALIBRATING,
        "calibration_inputs": CALIBRATING,
        **ElementSettings.read_where,
    }
    may_idle: ClassVar[frozenset[str]] = EvidenceSettings.may_idle | {"touched_share"}

    method: Literal["codepurify"]
    touched_share: Decided[float] = Field(
        0.03,
        ge=0,
        le=1,
        description="share of clean validation inputs that may fall below the entropy threshold (section IV-F gives no "
        "number; an element that is rewritten is often the evidence for a correct prediction, so rewriting a clean "
        "input often costs its correct prediction); 0 rewrites nothing, 1 rewrites everything (the paper's -E)",
    )
    threshold: Decided[float | None] = Field(
        None,
        ge=0,
        description="fixed entropy threshold in nats instead of the calibrated one (section III-A3: 0.1); null "
        "calibrates by touched_share",
    )

    @property
    def purifies_all(self) -> bool:
        """Whether every input is rewritten, also one without an entropy (the paper's -E)."""
        return self.threshold is None and self.touched_share == 1

    def work(self, job: PurificationJob) -> Work:
        """Predictions for every input and every masked version of it, which give the evidence."""
        # calibration rows are scored also for a fixed threshold, since variants share the evidence
        return self.scoring(job.victim, job.rows + job.calibrated(None, self.calibration_inputs))
