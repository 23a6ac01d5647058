"""Settings of ONION."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field

from codebackdoor.config.base import Head, Helper, ReadWhere, Reference
from codebackdoor.costs.work import PurificationJob, Work
from codebackdoor.defenses.purification.settings import CALIBRATING, FUNCTION_HEADS, PurificationSettings
from codebackdoor.defenses.suspicion.settings import word_scoring
from codebackdoor.types import Field as TextField


class OnionSettings(PurificationSettings):
    """Drops words that a causal language model finds unlikely (Qi et al. 2021; CodePurify IV-D, DeCE 4.4)."""

    label: ClassVar[str] = "ONION"
    reference: ClassVar[Reference | None] = Reference(
        authors="Fanchao Qi, Yangyi Chen, Mukai Li, Yuan Yao, Zhiyuan Liu, Maosong Sun",
        year=2021,
        title="ONION: A Simple and Effective Defense Against Textual Backdoor Attacks",
        url="https://doi.org/10.18653/v1/2021.emnlp-main.752",
    )
    threshold_meaning: ClassVar[str] = "drops a word if dropping it lowers the perplexity by more than the threshold"
    fits: ClassVar[tuple[Head, ...]] = (*FUNCTION_HEADS, "generation")
    acts_on: ClassVar[tuple[TextField, ...]] = get_args(TextField)
    read_where: ClassVar[ReadWhere] = {
        "calibration_inputs": CALIBRATING,
        "lost_points": CALIBRATING,
        "removed_share": ("lost_points", (None,)),
    }
    may_idle: ClassVar[frozenset[str]] = frozenset({"calibration_inputs", "removed_share"})

    method: Literal["onion"]
    removed_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="share of the words of clean validation inputs that exceed the threshold (Qi et al. choose theirs "
        "on clean validation data and give no share); 0 removes nothing",
    )
    threshold: float | None = Field(
        None,
        description="fixed threshold, a decrease in perplexity, instead of the calibrated one (DeCE's released code: "
        "0); null calibrates by removed_share",
    )
    # variants without it, or without the next setting, keep the settings of their finished jobs
    lost_points: float | None = Field(
        None,
        ge=0,
        exclude_if=lambda points: points is None,
        description="points that the victim may lose on clean validation rows; it then replaces removed_share, and "
        "every victim has a threshold of its own: the share of removed words rises from 0 to 50% in steps of half a "
        "percent and stops before the first one that costs more. Points of accuracy; of 100 times the mean "
        "reciprocal rank (code search); of 100 times the mean probability of the reference's sub-tokens (generation) "
        "(Qi et al., section 4.1: 2 points of accuracy)",
    )
    language: Literal["code", "english"] = Field(
        "code",
        exclude_if=lambda language: language == "code",
        description="what the language model has read: code (helper `language_model`), or docstrings and comments "
        "(helper `english_model`), for words of queries and comments (the papers: GPT-2)",
    )
    calibration_inputs: int = Field(
        150,
        gt=0,
        description="clean validation inputs for the calibration of the threshold, drawn by seed; each word of an "
        "input gives one value",
    )

    @property
    def helpers(self) -> tuple[Helper, ...]:  # type: ignore[override]
        return ("english_model",) if self.language == "english" else ("language_model",)

    @property
    def reads_victim(self) -> bool:  # type: ignore[override]
        """Only if the threshold depends on what the victim loses."""
        return self.threshold is None and self.lost_points is not None

    @property
    def more_code(self) -> tuple[str, ...]:
        return ("defenses.purification.onion.affordable",) if self.reads_victim else ()

    def work(self, job: PurificationJob) -> Work:
        rows = job.distinct + job.calibrated(self.threshold, self.calibration_inputs)
        return word_scoring(job.language_model, job.victim, rows)
