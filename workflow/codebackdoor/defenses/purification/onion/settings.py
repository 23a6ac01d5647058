"""Settings of ONION."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Head, Helper, Reference
from codebackdoor.defenses.purification.settings import FUNCTIONS, PurificationSettings


class OnionSettings(PurificationSettings):
    """Words that a causal language model finds unlikely are dropped (Qi et al. 2021; CodePurify IV-D, DeCE 4.4)."""

    label: ClassVar[str] = "ONION"
    reference: ClassVar[Reference | None] = Reference(
        authors="Fanchao Qi, Yangyi Chen, Mukai Li, Yuan Yao, Zhiyuan Liu, Maosong Sun",
        year=2021,
        title="ONION: A Simple and Effective Defense Against Textual Backdoor Attacks",
        url="https://doi.org/10.18653/v1/2021.emnlp-main.752",
    )
    threshold_meaning: ClassVar[str] = "drops a word where the perplexity without it is lower by more"
    helpers: ClassVar[tuple[Helper, ...]] = ("language_model",)
    fits: ClassVar[tuple[Head, ...]] = (*FUNCTIONS, "generation")
    reads_victim: ClassVar[bool] = False

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
    calibration_inputs: int = Field(
        150,
        gt=0,
        description="clean validation inputs that the threshold is calibrated on, drawn by seed; each word of an input "
        "gives one value",
    )
