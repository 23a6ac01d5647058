"""Settings of AttDef."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Head, Helper, ReadWhere, Reference
from codebackdoor.costs.work import PurificationJob, Work
from codebackdoor.defenses.purification.settings import CALIBRATING, FUNCTION_HEADS, PurificationSettings

#: Share of clean functions that the shipped discriminator suspects at Li et al.'s 0.5: 10% of the default study's
#: validation rows, 17% of its test rows.
SUSPECTED = 0.2


class AttDefSettings(PurificationSettings):
    """Masks the sub-tokens that a prediction depends on, if an input seems to be tampered with (Li et al. 2023)."""

    label: ClassVar[str] = "AttDef"
    reference: ClassVar[Reference | None] = Reference(
        authors="Jiazhao Li, Zhuofeng Wu, Wei Ping, Chaowei Xiao, V.G. Vinod Vydiswaran",
        year=2023,
        title="Defending against Insertion-based Textual Backdoor Attacks via Attribution",
        url="https://doi.org/10.18653/v1/2023.findings-acl.561",
    )
    threshold_meaning: ClassVar[str] = (
        "masks a sub-token of a suspicious function if its attribution, relative within the function, "
        "is at least the threshold"
    )
    helpers: ClassVar[tuple[Helper, ...]] = ("discriminator",)
    fits: ClassVar[tuple[Head, ...]] = FUNCTION_HEADS
    read_where: ClassVar[ReadWhere] = {
        "suspicion": ("suspected_share", (None,)),
        "lost_points": ("masked_share", (None,)),
        "masked_share": CALIBRATING,
        "steps": ("attribution", ("integrated_gradients",)),
    }

    method: Literal["attdef"]
    attribution: Literal["integrated_gradients", "gradient_input"] = Field(
        "integrated_gradients",
        description="how the prediction is attributed to sub-tokens (Li et al.: partial layer-wise relevance "
        "propagation, which is implemented for BERT's layers only)",
    )
    steps: int = Field(
        8, gt=0, description="points at which integrated gradients are evaluated, each a forward and backward pass"
    )
    suspicion: float = Field(
        0.5,
        ge=0,
        le=1,
        description="probability of a replaced sub-token above which its function counts as tampered with (Li et al.: "
        "0.5)",
    )
    suspected_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of clean validation functions that the discriminator may call tampered with; it then "
        "replaces suspicion. 0 masks nothing, 1 ignores the discriminator (no source gives a share)",
    )
    lost_points: float = Field(
        2,
        ge=0,
        description="points of clean validation accuracy that masking may cost (code search: of 100 times the mean "
        "reciprocal rank among the calibration's functions). The attribution threshold goes down from 0.99 to 0.11 in "
        "steps of 0.01 and stops before the first value that costs more; it stays at 0.99 if that costs more already "
        "(Li et al.: 2)",
    )
    masked_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the sub-tokens of clean validation functions that reach the attribution threshold, as if "
        "all of them were called tampered with; it then replaces lost_points and needs no labels. The highest "
        "attribution of a suspect function always reaches it, unless the share is 0 (no source gives a share)",
    )
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="fixed attribution, relative to the lowest and the highest of its function, at which a sub-token "
        "is masked; null calibrates by lost_points or masked_share",
    )
    calibration_inputs: int = Field(
        1000, gt=0, description="clean validation inputs for the calibration of the thresholds, drawn by seed"
    )

    def work(self, job: PurificationJob) -> Work:
        """The predictions for suspect inputs and their gradients.

        Of the clean inputs those with a suspect function are suspect, of the triggered ones all. The discriminator, a
        small model, is not counted, nor are the masked rows of the calibration.
        """
        suspected = SUSPECTED if self.suspected_share is None else self.suspected_share
        share = 1 - (1 - suspected) ** job.victim.functions_per_row
        suspect = sum(row_set.rows * (float(share > 0) if row_set.triggered else share) for row_set in job.row_sets)
        # with masked_share the calibration treats all functions as suspect
        calibrated = job.calibrated(self.threshold, self.calibration_inputs)
        rows = suspect + calibrated * (share if self.masked_share is None else 1.0)
        points = self.steps if self.attribution == "integrated_gradients" else 1
        # the gradient goes back to the embeddings and to no weight: it costs a second forward pass
        return Work(predicted=(min(rows, job.distinct) + 2 * points * rows) * job.victim.forward)
