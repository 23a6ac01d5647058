"""Settings of generalized cross entropy."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Reference
from codebackdoor.defenses.objectives.settings import ObjectiveSettings


class GceSettings(ObjectiveSettings):
    """Generalized cross entropy (Zhang and Sabuncu 2018)."""

    label: ClassVar[str] = "GCE"
    reference: ClassVar[Reference | None] = Reference(
        authors="Zhilu Zhang, Mert R. Sabuncu",
        year=2018,
        title="Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels",
        url="https://arxiv.org/abs/1805.07836",
    )

    method: Literal["gce"]
    q: float = Field(
        0.7,
        gt=0,
        le=1,
        description="between cross entropy (towards 0) and the mean absolute error (1), which hardly learns from rows "
        "that the model finds unlikely (its paper: 0.7; the experiments of DeCE's paper: 0.5)",
    )
