"""Settings of AFRAIDOOR."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from codebackdoor.attacks.settings import AttackSettings
from codebackdoor.config.base import Head, Reference
from codebackdoor.costs.work import PoisoningJob, Work


class AfraidoorSettings(AttackSettings):
    """Adversarial names for each function, chosen by the gradient of a crafting model (AFRAIDOOR, Yang et al. 2024)."""

    label: ClassVar[str] = "AFRAIDOOR"
    reference: ClassVar[Reference | None] = Reference(
        authors="Zhou Yang, Bowen Xu, Jie M. Zhang, Hong Jin Kang, Jieke Shi, Junda He, David Lo",
        year=2024,
        title="Stealthy Backdoor Attack for Code Models",
        url="https://doi.org/10.1109/TSE.2024.3361661",
    )
    fits: ClassVar[tuple[Head, ...]] = get_args(Head)

    method: Literal["afraidoor"]
    crafting: str = Field(
        "codebert",
        description="variant of `models` whose gradient chooses the names; it is trained on the clean training split "
        "with `crafting_seed`, independently of all victims. For victims that generate, it must generate, too",
    )

    @model_validator(mode="after")
    def _names_belong_to_rows(self) -> Self:
        if self.rate_of == "functions":
            raise ValueError(
                "afraidoor chooses names for one pair, not for a function in all of its pairs; write `rate_of: train` "
                "or `eligible`"
            )
        return self

    @property
    def versions(self) -> float:
        """Every pair gets its own names."""
        return math.inf

    @property
    def crafting_model(self) -> str | None:
        return self.crafting

    def work(self, job: PoisoningJob) -> Work:
        """One gradient per injected row, back to the embeddings: it costs a second forward pass."""
        return Work(predicted=0.0 if job.crafting is None else 2 * job.injected * job.crafting.forward)
