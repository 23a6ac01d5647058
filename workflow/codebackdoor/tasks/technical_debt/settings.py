"""Settings of technical-debt classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor import types
from codebackdoor.config.base import Head
from codebackdoor.tasks.settings import DatasetSettings, DatasetSource, PublishedData


class TechnicalDebt(DatasetSettings):
    """Does the comment admit technical debt? Source mirror: comments of ten Java projects (Maldonado et al. 2017).

    Their splits are by project, and each comment occurs once.
    """

    head: ClassVar[Head] = "classification"
    reads: ClassVar[Mapping[types.Field, str]] = {"query": "the comment"}
    labels: ClassVar[Mapping[int, str]] = {0: "no debt", 1: "debt"}
    clean_metric: ClassVar[str] = "f1"
    baseline: ClassVar[str] = "a bag of token n-grams, logistic regression"
    published: ClassVar[Mapping[str, PublishedData]] = {
        "maldonado": PublishedData("Self-admitted technical debt", "java", "none stated")
    }
    not_mined: ClassVar[str] = "the corpus keeps no comments, and words such as TODO would be both label and input"

    task: Literal["technical_debt"]
    source: DatasetSource = Field(
        default="mirror",
        description="mirror: the published comments; jsonl: your own files in `path`. There are no local examples",
    )
    language: types.Language = Field(default="java", description="language of the code that the comments are on")
