"""Settings of deceptive cross entropy."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Reference
from codebackdoor.config.recipes import Clock, Recipe
from codebackdoor.defenses.objectives.settings import ObjectiveSettings


class DeCESettings(ObjectiveSettings):
    """Deceptive cross entropy (Yang et al. 2026, section 4)."""

    label: ClassVar[str] = "DeCE"
    reference: ClassVar[Reference | None] = Reference(
        authors="Guang Yang, Yu Zhou, Xiangyu Zhang, Xiang Chen, Terry Yue Zhuo, David Lo, Taolue Chen",
        year=2026,
        title="Defending Code Language Models against Backdoor Attacks with Deceptive Cross-Entropy Loss",
        url="https://doi.org/10.1145/3728639",
    )

    method: Literal["dece"]
    alpha: float = Field(
        0.99,
        gt=0,
        le=1,
        description="the weight of the model's own distribution in epoch e is alpha^e; epochs count from 1, and 1 "
        "means no blending (paper: 0.99 by default, 0.985 to 0.995 in section 5.3; with the released code's 0.8 the "
        "model stops learning, docs/fidelity.md D4)",
    )
    epsilon: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of a label that is spread over all classes; 0 means no smoothing (paper: 0.1)",
    )
    clock: Clock = Field(
        "epoch",
        exclude_if=lambda clock: clock == "epoch",
        description="what e is: whole epochs (paper), or epochs that grow with every step, from 1 at the first step by "
        "1 an epoch, so that the bound also tightens within an epoch",
    )

    @property
    def recipe(self) -> Recipe:
        return Recipe(clock=self.clock)
