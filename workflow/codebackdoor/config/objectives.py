"""Settings of the training losses: the undefended one, and those that shall keep a backdoor from being learned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from codebackdoor.config.base import Settings


class CrossEntropy(Settings):
    """Cross entropy: the undefended objective."""

    method: Literal["cross_entropy"]
    stop_like: str | None = Field(
        None,
        description="name of another objective: training stops after the first epoch whose loss on the clean "
        "validation split is no higher than the last one of the victim that the other trained in the same scenario; "
        "tells a defense from mere under-training; null: all epochs",
    )


class DeCE(Settings):
    """Deceptive cross entropy (Yang et al. 2026, section 4)."""

    method: Literal["dece"]
    alpha: float = Field(
        0.99,
        gt=0,
        le=1,
        description="weight of the model's own distribution in epoch e is alpha^e, e from 1; 1: no blending (paper: "
        "0.99 by default, 0.985 to 0.995 in section 5.3; the released code's 0.8 stops training, docs/fidelity.md D4)",
    )
    epsilon: float = Field(
        0.1, ge=0, lt=1, description="share of a label that is spread over all classes; 0: no smoothing (paper: 0.1)"
    )


AnyObjective = Annotated[CrossEntropy | DeCE, Field(discriminator="method")]
