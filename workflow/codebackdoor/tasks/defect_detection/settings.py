"""Settings of defect detection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from codebackdoor import types
from codebackdoor.config.base import Head, ReadWhere
from codebackdoor.tasks.settings import DatasetSettings, Mix, PublishedData


class DefectDetection(DatasetSettings):
    """Is the function defective? Label 1 is defective (CodeXGLUE's convention). Source mirror: Devign (C)."""

    head: ClassVar[Head] = "classification"
    reads: ClassVar[Mapping[types.Field, str]] = {"code": "the function"}
    labels: ClassVar[Mapping[int, str]] = {0: "no defect", 1: "defective"}
    clean_metric: ClassVar[str] = "accuracy"
    baseline: ClassVar[str] = "a bag of token n-grams, logistic regression"
    published: ClassVar[Mapping[str, PublishedData]] = {"devign": PublishedData("Devign", "c", "C-UDA")}
    limitation: ClassVar[str | None] = (
        "Injected defects are not the defects that people make; detecting them is easier in some ways and harder in "
        "others."
    )

    read_where: ClassVar[ReadWhere] = {
        **DatasetSettings.read_where,
        **dict.fromkeys(("mix", "mutants"), ("source", ("pypi",))),
    }
    may_idle: ClassVar[frozenset[str]] = frozenset(read_where)

    task: Literal["defect_detection"]
    mix: Mix = Field(default=Mix(), description="kinds of injected defects (source pypi)")
    mutants: tuple[float, float, float] = Field(
        default=(1.0, 1.0, 1.0),
        description="relative weights of one, two and three mutants in a defective function (source pypi)",
    )

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if min(self.mutants) < 0 or not any(self.mutants):
            raise ValueError("mutants: write three weights of at least 0, not all 0")
        return self
