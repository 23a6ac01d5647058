"""Settings of clone detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from codebackdoor import types
from codebackdoor.config.base import Head, ReadWhere
from codebackdoor.tasks.settings import DatasetSettings, PublishedData


class CloneDetection(DatasetSettings):
    """Decide whether two functions do the same (CodeXGLUE: label 1, a clone).

    Source mirror: BigCloneBench (Java); `original: bigclonebench_codepurify` is CodePurify's sample of it.
    """

    head: ClassVar[Head] = "pair"
    reads: ClassVar[Mapping[types.Field, str]] = {
        "code": "the function",
        "code_b": "the other function of the pair",
    }
    labels: ClassVar[Mapping[int, str]] = {0: "no clone", 1: "clone"}
    clean_metric: ClassVar[str] = "f1"
    baseline: ClassVar[str] = "the overlap of tokens, best threshold of the training split"
    published: ClassVar[Mapping[str, PublishedData]] = {
        "bigclonebench": PublishedData("BigCloneBench", "java", "C-UDA"),
        "bigclonebench_codepurify": PublishedData("CodePurify's sample of BigCloneBench", "java", "none stated"),
    }
    read_where: ClassVar[ReadWhere] = {
        **DatasetSettings.read_where,
        **dict.fromkeys(("negatives", "releases", "names"), ("source", ("pypi",))),
        "overlap": ("negatives", ("similar",)),
    }
    may_idle: ClassVar[frozenset[str]] = frozenset(read_where)

    task: Literal["clone_detection"]
    train: int | None = Field(
        default=8000,
        gt=0,
        description="maximum rows of the training split, clean samples included; null: all available rows",
    )
    valid: int | None = Field(
        default=600, gt=0, description="maximum rows of the validation split; null: all available rows"
    )
    max_tokens: int | None = Field(
        default=80,
        gt=0,
        description="maximum length of a function, in sub-tokens of the tokenizer without special tokens (without a "
        "tokenizer: in words between white space); longer rows are left out. null: every length, the model truncates",
    )
    negatives: Literal["similar", "random"] = Field(
        default="similar",
        description="functions that are paired as `no clone` (source pypi). similar: functions whose tokens overlap; "
        "random: any functions, which are easy to tell apart by counting common tokens",
    )
    overlap: tuple[float, float] = Field(
        default=(0.6, 0.95),
        description="minimum and maximum share of common tokens of two similar functions, with their local names "
        "taken as equal: intersection over union of the two bags",
    )
    releases: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="share of functions that have a next release in the corpus, until these run out; their clone is "
        "the rewritten next release (source pypi)",
    )
    names: tuple[float, float, float] = Field(
        default=(0.2, 0.5, 0.3),
        description="what happens to the function's name, a parameter or a local variable in a rewritten function, as "
        "relative weights: it stays, it becomes a name of the other function of its group, or a name of any function. "
        "If all of them stay, equal names give clones away (source pypi)",
    )

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        low, high = self.overlap
        if not 0 <= low <= high <= 1:
            raise ValueError("overlap: write two shares between 0 and 1, the smaller one first")
        if min(self.names) < 0 or not any(self.names):
            raise ValueError("names: write three weights of at least 0, not all 0")
        return self
