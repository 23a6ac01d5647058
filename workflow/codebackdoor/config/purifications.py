"""Settings of the methods that rewrite test inputs before the victim reads them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from codebackdoor.config.base import Head, Helper, ReadWhere, Settings

#: Methods that rewrite each function by itself work wherever functions are read.
FUNCTIONS: tuple[Head, ...] = ("classification", "pair", "retrieval")

Normalisation = Literal["l1", "softmax", "entropy_by_log_n"]


class Purification(Settings):
    """What all purifications share."""

    #: Whether the method looks at the victim; one that does not rewrites a test set once for all victims.
    reads_victim: ClassVar[bool] = True
    #: Whether the method needs the trigger that an elimination before it on the path has inverted.
    reads_trigger: ClassVar[bool] = False
    #: A fixed threshold leaves nothing to calibrate.
    read_where: ClassVar[ReadWhere] = {
        "touched_share": ("threshold", (None,)),
        "removed_share": ("threshold", (None,)),
        "calibration_inputs": ("threshold", (None,)),
    }


class CodePurify(Purification):
    """Masking, entropy of the suspicion scores, infilling of the most suspicious element (Mu et al. 2024, III)."""

    fits: ClassVar[tuple[Head, ...]] = ("classification", "generation")
    helpers: ClassVar[tuple[Helper, ...]] = ("infiller",)

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

    helpers: ClassVar[tuple[Helper, ...]] = ("language_model",)
    fits: ClassVar[tuple[Head, ...]] = (*FUNCTIONS, "generation")
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


class AttDef(Purification):
    """What carries the prediction of an input that looks tampered with is masked (Li et al. 2023)."""

    helpers: ClassVar[tuple[Helper, ...]] = ("discriminator",)
    fits: ClassVar[tuple[Head, ...]] = FUNCTIONS
    read_where: ClassVar[ReadWhere] = {
        "suspicion": ("suspected_share", (None,)),
        "lost_points": ("masked_share", (None,)),
        "masked_share": ("threshold", (None,)),
        "steps": ("attribution", ("integrated_gradients",)),
    }

    method: Literal["attdef"]
    attribution: Literal["integrated_gradients", "gradient_input"] = Field(
        "integrated_gradients",
        description="how the prediction is attributed to sub-tokens (Li et al.: partial layer-wise relevance "
        "propagation, which is written for BERT's layers and for no other class)",
    )
    steps: int = Field(
        8, gt=0, description="points at which integrated gradients look, each a forward and backward pass"
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
        description="share of clean validation functions that the discriminator may call tampered with, which then "
        "decides instead of suspicion; 0 masks nothing, 1 leaves the discriminator out (no source gives a share)",
    )
    lost_points: float = Field(
        2,
        ge=0,
        description="points of clean validation accuracy that masking may cost (of a search: of 100 times the mean "
        "reciprocal rank among the calibration's functions): the attribution's threshold goes down from 0.99 to 0.11 "
        "in hundredths, and stays before the first that costs more; at 0.99 where that costs more already (Li et al.: "
        "2)",
    )
    masked_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the sub-tokens of clean validation functions that reach the attribution's threshold, as "
        "if all were called tampered with, which then decides instead of lost_points and needs no labels; the highest "
        "of a suspect function always does, unless this is 0 (no source gives a share)",
    )
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="fixed attribution, relative to the lowest and the highest of its function, from which on a "
        "sub-token is masked; null calibrates by lost_points or masked_share",
    )
    calibration_inputs: int = Field(
        1000, gt=0, description="clean validation inputs that the thresholds are calibrated on, drawn by seed"
    )


class Similarity(Purification):
    """Tokens that resemble the trigger which an elimination has inverted are filtered (EliBadCode, section 6.2)."""

    reads_trigger: ClassVar[bool] = True
    fits: ClassVar[tuple[Head, ...]] = FUNCTIONS
    read_where: ClassVar[ReadWhere] = {}

    method: Literal["similarity"]
    threshold: float = Field(
        0.9,
        ge=-1,
        le=1,
        description="cosine similarity of input embeddings above which a token is filtered (section 6.2: 0.9)",
    )
    unit: Literal["token", "word"] = Field(
        "token",
        description="token: each sub-token against each of the trigger's (section 6.2: 'user input tokens and inverted "
        "trigger tokens'); word: the mean of an identifier's sub-tokens against the mean of the trigger's",
    )
    also: Annotated[Onion | AttDef, Field(discriminator="method")] | None = Field(
        None, description="settings of ONION or AttDef, whose finds are filtered as well (section 6.2: each of them)"
    )

    @property
    def helpers(self) -> tuple[Helper, ...]:  # type: ignore[override]
        return () if self.also is None else self.also.helpers


AnyPurification = Annotated[CodePurify | Onion | AttDef | Similarity, Field(discriminator="method")]
