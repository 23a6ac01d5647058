"""Settings of the In-trust loss."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Reference
from codebackdoor.defenses.objectives.settings import ObjectiveSettings


class InTrustSettings(ObjectiveSettings):
    """The In-trust loss: cross entropy and distrust cross entropy (Huang et al. 2021)."""

    label: ClassVar[str] = "In-trust"
    reference: ClassVar[Reference | None] = Reference(
        authors="Xiusheng Huang, Yubo Chen, Shun Wu, Jun Zhao, Yuantao Xie, Weijian Sun",
        year=2021,
        title="Named Entity Recognition via Noise Aware Training Mechanism with Data Filter",
        url="https://doi.org/10.18653/v1/2021.findings-acl.423",
    )

    method: Literal["in_trust"]
    alpha: float = Field(
        1.0,
        gt=0,
        description="weight of cross entropy, which trusts the label (its authors' code: 1; the experiments of DeCE's "
        "paper: 0.2)",
    )
    beta: float = Field(
        0.8, ge=0, description="weight of distrust cross entropy, which trusts the model (both: 0.8); 0: none"
    )
    delta: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="share of the model's own distribution in the one that distrust cross entropy compares it with; "
        "the rest is the label's (both: 0.5)",
    )
