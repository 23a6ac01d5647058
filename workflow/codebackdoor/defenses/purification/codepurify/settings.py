"""Settings of CodePurify."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from codebackdoor.config.base import Head, Helper, Reference
from codebackdoor.costs.work import PurificationJob, RowSet, Work
from codebackdoor.defenses.purification.settings import PurificationSettings

Normalization = Literal["l1", "softmax", "entropy_by_log_n"]


class CodePurifySettings(PurificationSettings):
    """Masks elements; if the entropy of their scores is low, infills the most suspicious one (Mu et al. 2024, III)."""

    label: ClassVar[str] = "CodePurify"
    reference: ClassVar[Reference | None] = Reference(
        authors="Fangwen Mu, Junjie Wang, Zhuohao Yu, Lin Shi, Song Wang, Mingyang Li, Qing Wang",
        year=2024,
        title="CodePurify: Defend Backdoor Attacks on Neural Code Models via Entropy-based Purification",
        url="https://arxiv.org/abs/2410.20136",
    )
    threshold_meaning: ClassVar[str] = "rewrites an input if the entropy of its suspicion scores is below the threshold"
    fits: ClassVar[tuple[Head, ...]] = ("classification", "generation")
    helpers: ClassVar[tuple[Helper, ...]] = ("infiller",)

    method: Literal["codepurify"]
    identifiers: bool = Field(
        True,
        description="mask each distinct identifier, at all its occurrences (section III-A1; false is the paper's -V)",
    )
    statements: bool = Field(
        True, description="mask each statement except for its keywords (section III-A1; false is the paper's -S)"
    )
    normalisation: Normalization = Field(
        "l1",
        description="how suspicion scores become a distribution. l1: divided by their sum (the released code, and the "
        "only reading under which the paper's threshold 0.1 makes sense); softmax (Eq. 3); entropy_by_log_n: divided "
        "by their sum, and the entropy divided by the logarithm of the number of elements",
    )
    touched_share: float = Field(
        0.03,
        ge=0,
        le=1,
        description="share of clean validation inputs that may fall below the entropy threshold (section IV-F gives no "
        "number; an element that is rewritten is often the evidence for a correct prediction, so rewriting a clean "
        "input often costs its correct prediction); 0 rewrites nothing, 1 rewrites everything (the paper's -E)",
    )
    threshold: float | None = Field(
        None,
        ge=0,
        description="fixed entropy threshold in nats instead of the calibrated one (section III-A3: 0.1); null "
        "calibrates by touched_share",
    )
    calibration_inputs: int = Field(
        1000,
        gt=0,
        description="clean validation inputs for the calibration of the threshold, drawn by seed; with n of them the "
        "share on fresh inputs has a standard error of sqrt(share (1 - share) / n): 0.5 points at the defaults",
    )

    @model_validator(mode="after")
    def _something_to_mask(self) -> CodePurifySettings:
        if not (self.identifiers or self.statements):
            raise ValueError("set 'identifiers' or 'statements' (or both) to true; with neither nothing is masked")
        return self

    def work(self, job: PurificationJob) -> Work:
        """Predictions for every input and every masked version of it."""
        victim = job.victim
        rows = job.rows + job.calibrated(self.threshold, self.calibration_inputs)
        versions = victim.texts.element_tokens / victim.texts.tokens
        outputs = victim.predictions(RowSet(rows)) if victim.targets else Work()
        return outputs + Work(predicted=rows * (1 + versions) * victim.forward)
