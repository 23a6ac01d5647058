"""Settings of Moderate-fitting."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from codebackdoor.config.base import Reference
from codebackdoor.config.recipes import AdapterSettings, Recipe
from codebackdoor.defenses.objectives.settings import ObjectiveSettings


class ModerateFittingSettings(ObjectiveSettings):
    """Moderate-fitting (Zhu et al. 2022): cross entropy with a lower learning rate, adapters, or fewer passes."""

    label: ClassVar[str] = "Moderate-fitting"
    reference: ClassVar[Reference | None] = Reference(
        authors="Biru Zhu, Yujia Qin, Ganqu Cui, Yangyi Chen, Weilin Zhao, Chong Fu, Yangdong Deng, Zhiyuan Liu, "
        "Jingang Wang, Wei Wu, Maosong Sun, Ming Gu",
        year=2022,
        title="Moderate-fitting as a Natural Backdoor Defender for Pre-trained Language Models",
        url="https://papers.nips.cc/paper_files/paper/2022/hash/0799492e7be38b66d10ead5e8809616d-Abstract-Conference.html",
    )

    method: Literal["moderate_fitting"]
    lr_factor: float = Field(
        0.1,
        gt=0,
        le=1,
        description="the model's learning rate is multiplied by it (experiments of DeCE's paper: 0.1, and nothing else "
        "changes); 1: unchanged",
    )
    passes: float = Field(
        1.0, gt=0, le=1, description="share of the model's epochs that are trained, at least one; 1: all"
    )
    adapters: AdapterSettings | None = Field(
        None,
        description="low-rank adapters are trained instead of the weights (its paper reduces the capacity in this "
        "way); null: all weights are trained",
    )

    @model_validator(mode="after")
    def _restricts(self) -> Self:
        if self.lr_factor == 1 and self.passes == 1 and self.adapters is None:
            raise ValueError("nothing is restricted, which is cross entropy; write lr_factor, passes or adapters")
        return self

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.lr_factor, self.passes, self.adapters)
