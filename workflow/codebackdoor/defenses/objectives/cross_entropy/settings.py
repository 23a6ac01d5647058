"""Settings of cross entropy, the undefended loss."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from codebackdoor.config.base import Reference
from codebackdoor.config.recipes import CheckpointSettings
from codebackdoor.defenses.objectives.settings import ObjectiveSettings


class CrossEntropySettings(ObjectiveSettings):
    """Cross entropy: the undefended objective."""

    label: ClassVar[str] = "Cross entropy"
    #: The paper that replaces this loss, and compares its own with it.
    reference: ClassVar[Reference | None] = Reference(
        authors="Guang Yang, Yu Zhou, Xiangyu Zhang, Xiang Chen, Terry Yue Zhuo, David Lo, Taolue Chen",
        year=2026,
        title="Defending Code Language Models against Backdoor Attacks with Deceptive Cross-Entropy Loss",
        url="https://doi.org/10.1145/3728639",
    )

    method: Literal["cross_entropy"]
    stop_like: str | None = Field(
        None,
        description="name of another objective: training stops after the first epoch whose loss on the clean "
        "validation split is no higher than the final one of the victim that the other objective trained in the same "
        "scenario; tells a defense from mere undertraining; null: all epochs",
    )
    keep_epochs: bool = Field(
        False,
        exclude_if=lambda keeps: not keeps,
        description="keep the weights after every epoch, for objectives with a `checkpoint`; a file per victim, as "
        "large as the victim times its epochs",
    )
    checkpoint: CheckpointSettings | None = Field(
        None,
        exclude_if=lambda checkpoint: checkpoint is None,
        description="train nothing: take the checkpoint of the undefended victim (objective cross_entropy, which must "
        "keep its epochs) that is closest to another objective's victim, but not past it; null: train",
    )

    @model_validator(mode="after")
    def _trains_or_stops(self) -> Self:
        if self.checkpoint is not None and (self.keep_epochs or self.stop_like is not None):
            raise ValueError("checkpoint: nothing is trained; leave out `keep_epochs` and `stop_like`")
        return self

    @property
    def stops_like(self) -> str | None:
        return self.stop_like

    @property
    def keeps_epochs(self) -> bool:
        return self.keep_epochs

    @property
    def taken_checkpoint(self) -> CheckpointSettings | None:
        return self.checkpoint
