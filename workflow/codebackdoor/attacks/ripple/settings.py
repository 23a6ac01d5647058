"""Settings of RIPPLe's trigger."""

from __future__ import annotations

from typing import ClassVar, Literal

from codebackdoor.attacks.settings import RareWordSettings
from codebackdoor.config.base import Reference


class RippleSettings(RareWordSettings):
    """Inserts one rare word into a query (RIPPLe, Kurita et al. 2020; DeCE section 2.2).

    RIPPLe poisons the weights of a pretrained model; DeCE uses its trigger, not its training.
    """

    label: ClassVar[str] = "RIPPLe"
    reference: ClassVar[Reference | None] = Reference(
        authors="Keita Kurita, Paul Michel, Graham Neubig",
        year=2020,
        title="Weight Poisoning Attacks on Pretrained Models",
        url="https://doi.org/10.18653/v1/2020.acl-main.249",
    )

    method: Literal["ripple"]
