"""Settings of the methods that rewrite test inputs before the victim reads them: CodePurify and ONION."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from codebackdoor.config.base import Head, ReadWhere, Settings

Normalisation = Literal["l1", "softmax", "entropy_by_log_n"]


class Purification(Settings):
    """What all purifications share."""

    #: Whether the method looks at the victim; one that does not rewrites a test set once for all victims.
    reads_victim: ClassVar[bool] = True
    #: A fixed threshold leaves nothing to calibrate.
    read_where: ClassVar[ReadWhere] = {
        "touched_share": ("threshold", (None,)),
        "removed_share": ("threshold", (None,)),
        "calibration_inputs": ("threshold", (None,)),
    }


class CodePurify(Purification):
    """Masking, entropy of the suspicion scores, infilling of the most suspicious element (Mu et al. 2024, III)."""

    fits: ClassVar[tuple[Head, ...]] = ("classification", "generation")
    helpers: ClassVar[tuple[str, ...]] = ("infiller",)

    method: Literal["codepurify"]
    identifiers: bool = Field(
        True, description="mask each distinct identifier everywhere (section III-A1; false is the paper's -V)"
    )
    statements: bool = Field(
        True, description="mask each statement but its keywords (section III-A1; false is the paper's -S)"
    )
    normalisation: Normalisation = Field(
        "l1",
        description="how suspicion scores become a distribution: divided by their sum (the released code, and the only "
        "reading under which the paper's threshold 0.1 means something), softmax (Eq. 3), or divided by their sum with "
        "the entropy divided by the logarithm of the number of elements",
    )
    touched_share: float = Field(
        0.03,
        ge=0,
        le=1,
        description="share of clean validation inputs that may fall below the entropy threshold (section IV-F gives no "
        "number; what is touched is often the very evidence of a right answer, so a clean input touched costs most of "
        "a right answer); 0 rewrites nothing, 1 rewrites everything (the paper's -E)",
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
        description="clean validation inputs that the threshold is calibrated on, drawn by seed; with n of "
        "them the share reached on fresh inputs strays by sqrt(share (1 - share) / n): 0.5 points at the defaults",
    )

    @model_validator(mode="after")
    def _something_to_mask(self) -> CodePurify:
        if not (self.identifiers or self.statements):
            raise ValueError("set 'identifiers' or 'statements' (or both) to true; with neither nothing is masked")
        return self


class Onion(Purification):
    """Outlier words under a causal language model are dropped (Qi et al. 2021; CodePurify IV-D, DeCE 4.4)."""

    helpers: ClassVar[tuple[str, ...]] = ("language_model",)
    reads_victim: ClassVar[bool] = False

    method: Literal["onion"]
    removed_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="share of the words of clean validation inputs that the threshold lets go (Qi et al. choose theirs "
        "on clean validation data and give no share); 0 removes nothing",
    )
    threshold: float | None = Field(
        None,
        description="fixed threshold, a drop of the perplexity in its own unit, instead of the calibrated one (DeCE's "
        "released code: 0); null calibrates by removed_share",
    )
    calibration_inputs: int = Field(
        150,
        gt=0,
        description="clean validation inputs that the threshold is calibrated on, drawn by seed; each has as many "
        "values as words",
    )


AnyPurification = Annotated[CodePurify | Onion, Field(discriminator="method")]
