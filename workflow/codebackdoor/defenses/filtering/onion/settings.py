"""Settings of ONION on training rows."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field

from codebackdoor.config.base import Helper, ReadWhere, Reference
from codebackdoor.costs.work import FilteringJob, Work
from codebackdoor.defenses.filtering.settings import FilterSettings
from codebackdoor.defenses.suspicion.settings import word_scoring
from codebackdoor.types import Field as TextField


class OnionFilterSettings(FilterSettings):
    """Drops training rows with a word that a causal language model finds unlikely (Qi et al. 2021; EliBadCode 5.1)."""

    label: ClassVar[str] = "ONION on training rows"
    reference: ClassVar[Reference | None] = Reference(
        authors="Fanchao Qi, Yangyi Chen, Mukai Li, Yuan Yao, Zhiyuan Liu, Maosong Sun",
        year=2021,
        title="ONION: A Simple and Effective Defense Against Textual Backdoor Attacks",
        url="https://doi.org/10.18653/v1/2021.emnlp-main.752",
    )
    helpers: ClassVar[tuple[Helper, ...]] = ("language_model",)
    acts_on: ClassVar[tuple[TextField, ...]] = get_args(TextField)
    #: A fixed threshold leaves nothing to calibrate.
    read_where: ClassVar[ReadWhere] = {
        "dropped_share": ("threshold", (None,)),
        "calibration_inputs": ("threshold", (None,)),
    }

    method: Literal["onion"]
    words: Literal["all", "identifiers"] = Field(
        "all",
        description="words that are scored: all words, or those that are or contain an identifier, if the trigger is "
        "known to be a name",
    )
    dropped_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of the defender's clean samples that would be dropped if they were training rows "
        "(EliBadCode gives no rule); 0 drops nothing",
    )
    threshold: float | None = Field(
        None,
        description="fixed threshold, a decrease in perplexity, above which a row is dropped, instead of the "
        "calibrated one; null calibrates by dropped_share",
    )
    calibration_inputs: int = Field(
        1000,
        gt=0,
        description="clean samples for the calibration of the threshold, drawn by seed; each gives one value: with "
        "n of them the share on other clean rows has a standard error of sqrt(share (1 - share) / n)",
    )

    def work(self, job: FilteringJob) -> Work:
        rows = job.rows + job.calibrated(self.threshold, self.calibration_inputs)
        return word_scoring(job.language_model, job.victim, rows)
