"""Settings of EliBadCode's similarity filter."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Head, Helper, Reference
from codebackdoor.costs.work import PurificationJob, Work
from codebackdoor.defenses.purification.attdef.settings import AttDefSettings
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.purification.settings import FUNCTION_HEADS, PurificationSettings


class SimilaritySettings(PurificationSettings):
    """Filters tokens that resemble the trigger inverted by an elimination (EliBadCode, section 6.2)."""

    label: ClassVar[str] = "Similarity filter"
    reference: ClassVar[Reference | None] = Reference(
        authors="Weisong Sun, Yuchen Chen, Chunrong Fang, Yebo Feng, Yuan Xiao, An Guo, Quanjun Zhang, Zhenyu Chen, "
        "Baowen Xu, Yang Liu",
        year=2025,
        title="Eliminating Backdoors in Neural Code Models for Secure Code Understanding",
        url="https://doi.org/10.1145/3715782",
    )
    threshold_meaning: ClassVar[str] = (
        "filters a token if the cosine similarity of its embedding to the inverted trigger's is above the threshold"
    )
    reads_trigger: ClassVar[bool] = True
    fits: ClassVar[tuple[Head, ...]] = FUNCTION_HEADS

    method: Literal["similarity"]
    threshold: float = Field(
        0.9,
        ge=-1,
        le=1,
        description="cosine similarity of input embeddings above which a token is filtered (section 6.2: 0.9)",
    )
    unit: Literal["token", "word"] = Field(
        "token",
        description="token: each sub-token is compared with each one of the trigger (section 6.2: 'user input tokens "
        "and inverted trigger tokens'); word: the mean of an identifier's sub-tokens is compared with the mean of the "
        "trigger's",
    )
    also: Annotated[OnionSettings | AttDefSettings, Field(discriminator="method")] | None = Field(
        None, description="settings of ONION or AttDef, whose findings are filtered as well (section 6.2: each of them)"
    )

    @property
    def helpers(self) -> tuple[Helper, ...]:  # type: ignore[override]
        return () if self.also is None else self.also.helpers

    @property
    def more_code(self) -> tuple[str, ...]:
        """The combined method, which is loaded by its name."""
        if self.also is None:
            return ()
        return (f"defenses.purification.{self.also.method}.method", *self.also.more_code)

    def work(self, job: PurificationJob) -> Work:
        """Similarities are computed from the embeddings, without running a model."""
        return Work() if self.also is None else self.also.work(job)
