"""Settings of clean fine-tuning."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from codebackdoor.config.base import Reference
from codebackdoor.costs.work import EliminationJob, Work
from codebackdoor.defenses.elimination.settings import EliminationSettings, TuningSettings
from codebackdoor.types import Field


class FineTuningSettings(TuningSettings, EliminationSettings):
    """Clean fine-tuning, EliBadCode's control (its Tables 2 and 3): unlearning without a trigger."""

    label: ClassVar[str] = "Clean fine-tuning"
    reference: ClassVar[Reference | None] = Reference(
        authors="Weisong Sun et al.",
        year=2025,
        title="Eliminating Backdoors in Neural Code Models for Secure Code Understanding",
        url="https://doi.org/10.1145/3715782",
    )

    # every text that its victim reads
    acts_on: ClassVar[tuple[Field, ...]] = get_args(Field)

    method: Literal["fine_tuning"]

    def work(self, job: EliminationJob) -> Work:
        return self.tuning_work(job.victim)
