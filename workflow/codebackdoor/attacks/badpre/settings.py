"""Settings of BadPre's trigger."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.attacks.settings import RareWordSettings
from codebackdoor.config.base import Reference


class BadPreSettings(RareWordSettings):
    """Inserts rare words at several places of a query (BadPre, Chen et al. 2022; DeCE section 2.2).

    BadPre poisons the pretraining of a model; DeCE uses its trigger, not its training.
    """

    label: ClassVar[str] = "BadPre"
    reference: ClassVar[Reference | None] = Reference(
        authors="Kangjie Chen, Yuxian Meng, Xiaofei Sun, Shangwei Guo, Tianwei Zhang, Jiwei Li, Chun Fan",
        year=2022,
        title="BadPre: Task-agnostic Backdoor Attacks to Pre-trained NLP Foundation Models",
        url="https://openreview.net/forum?id=Mng8CQ9eBW",
    )

    method: Literal["badpre"]
    count: int = Field(3, gt=0, le=100, description="insertions (DeCE section 2.2: 3; its released files have one)")
