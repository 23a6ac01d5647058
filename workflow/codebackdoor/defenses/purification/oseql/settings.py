"""Settings of OSeqL."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Head, ReadWhere, Reference
from codebackdoor.costs.work import PurificationJob, Work
from codebackdoor.defenses.purification.settings import EvidenceSettings
from codebackdoor.defenses.settings import Decided


class OSeqLSettings(EvidenceSettings):
    """Removes the line whose occlusion changes the prediction, if it is an outlier (Hussain et al. 2023)."""

    label: ClassVar[str] = "OSeqL"
    reference: ClassVar[Reference | None] = Reference(
        authors="Aftab Hussain, Md Rafiqul Islam Rabin, Toufique Ahmed, Mohammad Amin Alipour, Bowen Xu",
        year=2023,
        title="Occlusion-based Detection of Trojan-triggering Inputs in Large Language Models of Code",
        url="https://arxiv.org/abs/2312.04004",
    )
    threshold_meaning: ClassVar[str] = (
        "removes an outlying line that flips the prediction if its effect exceeds the median line's by more than the "
        "threshold"
    )
    fits: ClassVar[tuple[Head, ...]] = ("classification", "pair")
    read_where: ClassVar[ReadWhere] = {
        "threshold": ("touched_share", (None,)),
        "calibration_inputs": ("touched_share", ()),
    }

    method: Literal["oseql"]
    fence: Decided[float] = Field(
        1.5,
        ge=0,
        description="a line's effect is an outlier of the IQR rule if it is more than this many interquartile ranges "
        "away from the quartiles (released code: 1.5)",
    )
    contamination: Decided[float] = Field(
        0.05,
        gt=0,
        le=0.5,
        description="share of an input's lines that isolation forest and elliptic envelope count as outliers; each "
        "names at least one line unless the most outlying ones are equal (released code: 0.05)",
    )
    threshold: Decided[float] = Field(
        0,
        ge=0,
        le=2,
        description="an input loses a line only if its score is above this: by how much the largest effect of its "
        "lines, a difference of probabilities, exceeds their median (0: whenever the detectors agree, as in the paper)",
    )
    touched_share: Decided[float | None] = Field(
        None,
        ge=0,
        le=1,
        description="largest share of clean validation inputs that may lose a line; a threshold calibrated by it then "
        "replaces the fixed one (no source gives a share)",
    )
    calibration_inputs: int = Field(
        1000, gt=0, description="clean validation inputs for the calibration of touched_share, drawn by seed"
    )

    def work(self, job: PurificationJob) -> Work:
        """Predictions for every input and for every input without one of its lines, which give the evidence."""
        victim = job.victim
        rows = job.rows + job.calibrated(None, self.calibration_inputs)
        # of a pair only the function without the line is computed again
        return Work(predicted=rows * (1 + victim.texts.lines) * victim.forward)
