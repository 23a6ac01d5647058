"""Settings of code generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor import types
from codebackdoor.config.base import Head, ReadWhere
from codebackdoor.tasks.settings import DatasetSettings, PublishedData


class CodeGeneration(DatasetSettings):
    """Write the function that a prompt describes.

    Source mirror: Lyra (Python with embedded SQL); `original: lyra_chinese` is Lyra with its Chinese comments, and
    `original: pisces` with `language: java` is Pisces. HumanEval and MBPP have tests: write `trained_on` with the data
    set whose victims predict on their test rows.
    """

    head: ClassVar[Head] = "generation"
    reads: ClassVar[Mapping[types.Field, str]] = {"query": "the prompt"}
    target: ClassVar[str] = "the code"
    clean_metric: ClassVar[str] = "bleu"
    baseline: ClassVar[str] = (
        "the training row with the nearest prompt, or where prompts have the signature, the signature with an empty "
        "body; whichever has the higher BLEU"
    )
    published: ClassVar[Mapping[str, PublishedData]] = {
        "lyra": PublishedData("Lyra", "python", "GPL-3.0"),
        "lyra_chinese": PublishedData("Lyra, Chinese comments", "python", "GPL-3.0"),
        "pisces": PublishedData("Pisces", "java", "none stated"),
        "humaneval": PublishedData("HumanEval", "python", "MIT", has_tests=True),
        "mbpp": PublishedData("MBPP", "python", "CC BY 4.0", has_tests=True),
    }
    limitation: ClassVar[str | None] = (
        "Generated code is executed only where rows have tests; BLEU does not tell a correct function from a similar "
        "one."
    )
    #: Published data sets whose prompts begin with the signature.
    with_signature: ClassVar[tuple[str, ...]] = ("humaneval", "mbpp")
    read_where: ClassVar[ReadWhere] = {**DatasetSettings.read_where, "prompt": ("source", ("pypi",))}
    may_idle: ClassVar[frozenset[str]] = frozenset(read_where)

    task: Literal["code_generation"]
    prompt: Literal["signature_and_docstring", "docstring"] = Field(
        default="signature_and_docstring",
        description="what the prompt of a mined function consists of (source pypi). signature_and_docstring: its first "
        "line and the first paragraph of its docstring, as in HumanEval; docstring: the paragraph alone",
    )
    valid: int | None = Field(
        default=300, gt=0, description="maximum rows of the validation split; null: all available rows"
    )
    test: int | None = Field(default=500, gt=0, description="maximum rows of the test split; null: all available rows")
    max_tokens: int | None = Field(
        default=48,
        gt=0,
        description="maximum length of the code, in sub-tokens of the tokenizer without special tokens (without a "
        "tokenizer: in words between white space); longer rows are left out. null: every length, the model truncates",
    )
    max_query_tokens: int | None = Field(
        default=64,
        gt=0,
        description="maximum length of the prompt, in the unit of max_tokens; rows with longer ones are left out. "
        "null: every length, the model truncates",
    )

    @property
    def query_limit(self) -> int | None:
        return self.max_query_tokens

    @property
    def limited(self) -> tuple[str, ...]:
        return ("target",)

    @property
    def has_signature(self) -> bool:
        """Whether every prompt begins with the function's signature."""
        if self.source == "mirror":
            return self.originals in self.with_signature
        return self.source == "pypi" and self.prompt == "signature_and_docstring"
