"""Settings of CodePurify on training rows."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import ReadWhere
from codebackdoor.costs.work import FilteringJob, Work
from codebackdoor.defenses.filtering.settings import VictimFilterSettings
from codebackdoor.defenses.suspicion.settings import ElementSettings
from codebackdoor.types import Field as TextField


class CodePurifyFilterSettings(ElementSettings, VictimFilterSettings):
    """Drops training rows whose suspicion scores have a low entropy (Mu et al. 2024, III-A and VI)."""

    label: ClassVar[str] = "CodePurify on training rows"
    # elements are those of code
    acts_on: ClassVar[tuple[TextField, ...]] = ("code",)
    #: A fixed threshold leaves nothing to calibrate.
    read_where: ClassVar[ReadWhere] = {
        **ElementSettings.read_where,
        "dropped_share": ("threshold", (None,)),
        "calibration_inputs": ("threshold", (None,)),
    }

    method: Literal["codepurify"]
    dropped_share: float = Field(
        0.03,
        ge=0,
        le=1,
        description="share of the defender's clean samples that would be dropped if they were training rows: the "
        "threshold is their quantile (no source gives a share; 0.03 is the default of CodePurify on inputs); 0 drops "
        "nothing",
    )
    threshold: float | None = Field(
        None,
        ge=0,
        description="fixed entropy, in nats, below which a row is dropped, instead of the calibrated one; null "
        "calibrates by dropped_share",
    )
    calibration_inputs: int = Field(
        1000,
        gt=0,
        description="clean samples for the calibration of the threshold, drawn by seed; with n of them the share on "
        "other clean rows has a standard error of sqrt(share (1 - share) / n)",
    )

    def work(self, job: FilteringJob) -> Work:
        """Predictions for every row and clean sample and every masked version of them."""
        return self.scoring(job.victim, job.rows + job.calibrated(self.threshold, self.calibration_inputs))
