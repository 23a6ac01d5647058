"""Settings of code repair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor import types
from codebackdoor.config.base import Head, ReadWhere
from codebackdoor.tasks.settings import DatasetSettings, Mix, PublishedData


class CodeRepair(DatasetSettings):
    """Turn the defective function into the correct one.

    Source mirror: Bugs2Fix small (Java), abstracted; `original: bugs2fix_identifiers` is CodePurify's release of it
    with the real identifiers.
    """

    head: ClassVar[Head] = "generation"
    reads: ClassVar[Mapping[types.Field, str]] = {"code": "the defective function"}
    target: ClassVar[str] = "the repaired code"
    clean_metric: ClassVar[str] = "bleu"
    baseline: ClassVar[str] = "the input, copied"
    published: ClassVar[Mapping[str, PublishedData]] = {
        "bugs2fix": PublishedData("Bugs2Fix small, abstracted", "java", "C-UDA"),
        "bugs2fix_identifiers": PublishedData("Bugs2Fix small with real identifiers", "java", "none stated"),
    }
    limitation: ClassVar[str | None] = (
        "Injected defects are not the defects that people make; detecting them is easier in some ways and harder in "
        "others."
    )

    read_where: ClassVar[ReadWhere] = {
        **DatasetSettings.read_where,
        **dict.fromkeys(("mix", "rows_per_function"), ("source", ("pypi",))),
    }
    may_idle: ClassVar[frozenset[str]] = frozenset(read_where)

    task: Literal["code_repair"]
    valid: int | None = Field(
        default=500, gt=0, description="maximum rows of the validation split; null: all available rows"
    )
    test: int | None = Field(default=600, gt=0, description="maximum rows of the test split; null: all available rows")
    max_tokens: int | None = Field(
        default=64,
        gt=0,
        description="maximum length of code and target, in sub-tokens of the tokenizer without special tokens (without "
        "a tokenizer: in words between white space); longer rows are left out. null: every length, the model truncates",
    )
    mix: Mix = Field(default=Mix(), description="kinds of injected defects, one in a row (source pypi)")
    rows_per_function: int = Field(
        default=2,
        gt=0,
        description="rows of the training split that are made from one function, each with another defect (source "
        "pypi)",
    )
