"""Settings of code-smell detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from codebackdoor import types
from codebackdoor.config.base import Head
from codebackdoor.tasks.settings import DatasetSettings, PublishedData


class CodeSmell(DatasetSettings):
    """Is the code a linguistic antipattern? Source mirror: Java methods and fields (Fakhoury et al. 2018).

    They have no splits: write `resplit: true`. Many are declarations of fields, which have no function name. What
    makes an antipattern is often in a comment, which lexed text does not have: write `text_form: raw`.
    """

    head: ClassVar[Head] = "classification"
    reads: ClassVar[Mapping[types.Field, str]] = {"code": "the method or field"}
    labels: ClassVar[Mapping[int, str]] = {0: "no smell", 1: "smell"}
    clean_metric: ClassVar[str] = "accuracy"
    baseline: ClassVar[str] = "a bag of token n-grams, logistic regression"
    published: ClassVar[Mapping[str, PublishedData]] = {
        "fakhoury": PublishedData("Linguistic antipatterns", "java", "none stated")
    }
    names_count: ClassVar[bool] = True
    limitation: ClassVar[str | None] = (
        "Local code smells are of two kinds, made by renaming: a getter that returns nothing and a setter that returns "
        "something. The published ones are of 17 kinds, found by people."
    )

    task: Literal["code_smell"]
