"""Settings of cross entropy, the undefended loss."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Reference, Settings
from codebackdoor.costs.work import TrainingJob, Work


class CrossEntropySettings(Settings):
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

    def work(self, job: TrainingJob) -> Work:  # noqa: ARG002
        """The loss costs next to nothing compared to the model."""
        return Work()
