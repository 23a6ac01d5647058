"""Settings of the methods that drop rows from a training set before a victim is trained on it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Helper, ReadWhere, Settings


class OnionFilter(Settings):
    """Training rows with an outlier word under a causal language model are dropped (Qi et al. 2021; EliBadCode 5.1)."""

    helpers: ClassVar[tuple[Helper, ...]] = ("language_model",)
    #: A fixed threshold leaves nothing to calibrate.
    read_where: ClassVar[ReadWhere] = {
        "dropped_share": ("threshold", (None,)),
        "calibration_inputs": ("threshold", (None,)),
    }

    method: Literal["onion"]
    words: Literal["all", "identifiers"] = Field(
        "all",
        description="which words can give a row away: all, or those that are or hold an identifier, where a trigger is "
        "known to be a name",
    )
    dropped_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of the defender's clean samples that the threshold would drop, were they training rows "
        "(EliBadCode gives no rule); 0 drops nothing",
    )
    threshold: float | None = Field(
        None,
        description="fixed threshold, a drop of the perplexity in its own unit, above which a row goes, instead of the "
        "calibrated one; null calibrates by dropped_share",
    )
    calibration_inputs: int = Field(
        1000,
        gt=0,
        description="clean samples that the threshold is calibrated on, drawn by seed; each has one value: with n of "
        "them the share reached on other clean rows strays by sqrt(share (1 - share) / n)",
    )


#: The registry. pydantic tells members of a union apart, and one class is no union: a second method makes it
#: ``Annotated[OnionFilter | Other, Field(discriminator="method")]``, as in the other sections.
AnyFiltering = OnionFilter
