"""Settings of Spectral Signature."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Head, Reference
from codebackdoor.costs.work import FilteringJob, Work
from codebackdoor.defenses.filtering.settings import REPRESENTED, VictimFilterSettings, represented_once

#: The poison rate that the method assumes, since a defender does not know the true one, and the factor of Tran et al.
ASSUMED_RATE, FACTOR = 0.05, 1.5


class SpectralSignatureSettings(VictimFilterSettings):
    """Drops the rows of each label that vary most along the direction of greatest variation (Tran et al. 2018)."""

    label: ClassVar[str] = "Spectral Signature"
    reference: ClassVar[Reference | None] = Reference(
        authors="Brandon Tran, Jerry Li, Aleksander Mądry",
        year=2018,
        title="Spectral Signatures in Backdoor Attacks",
        url="https://arxiv.org/abs/1811.00636",
    )
    fits: ClassVar[tuple[Head, ...]] = REPRESENTED

    method: Literal["spectral_signature"]
    share: float = Field(
        round(FACTOR * ASSUMED_RATE, 6),
        ge=0,
        le=1,
        description=f"share of the rows of each label that is dropped (generation: of all rows), {FACTOR} times an "
        f"assumed poison rate of {ASSUMED_RATE:.0%} (Tran et al.: {FACTOR} times the rate; the released BNC code: the "
        "true one, which no defender knows); 0 drops nothing",
    )
    vectors: int = Field(
        1,
        gt=0,
        description="top right singular vectors whose squared projections add up to a row's score (Tran et al.: 1; "
        "Ramakrishnan and Albarghouthi 2022: more)",
    )
    centered: Literal["group", "all"] = Field(
        "group",
        description="rows whose mean is subtracted: those of the same label (Tran et al.), or all rows (the released "
        "BNC code)",
    )

    def work(self, job: FilteringJob) -> Work:
        return represented_once(job)
