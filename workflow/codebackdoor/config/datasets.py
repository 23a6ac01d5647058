"""Settings of the data sets: where examples come from, in which text form, how many, and how defects are made."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from codebackdoor.config.base import Head, ReadWhere, Settings
from codebackdoor.config.paths import FolderPath
from codebackdoor.types import Language, TextForm

Source = Literal["pypi", "mirror", "jsonl"]


class Mix(Settings):
    """How often each kind of slip is drawn, as relative weights."""

    operator: float = Field(
        default=3.0,
        ge=0,
        description="wrong operator: another one of its group (+ and -, < and <=, and and or, == and !=)",
    )
    variable: float = Field(
        default=1.0, ge=0, description="variable misuse: another parameter or local variable that is bound"
    )
    arguments: float = Field(default=1.0, ge=0, description="swapped arguments: two positional arguments of one call")
    condition: float = Field(
        default=3.0, ge=0, description="negated condition of an if, while, assert or comprehension"
    )

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("every weight of the mutation mix is 0; write at least one above 0")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Share by kind, in a fixed order; they sum to 1."""
        weights: dict[str, float] = self.model_dump()
        return {kind: weight / sum(weights.values()) for kind, weight in weights.items()}


RankFrom = Literal["position", "top_half"]


class Ranking(NamedTuple):
    """How a dual encoder is asked: functions ranked for a query, and which of them is attacked (``CodeSearch``)."""

    pool: int = 1
    rank_from: RankFrom = "position"
    rank: float = 0.5


class DatasetSettings(Settings):
    """What all data sets share."""

    #: What a victim must do on it.
    head: ClassVar[Head]
    #: Labels that its rows may have, whatever their source: the task refuses others. Empty where rows have none.
    labels: ClassVar[tuple[int, ...]] = ()
    read_where: ClassVar[ReadWhere] = {
        "resplit": ("source", ("mirror", "jsonl")),
        "mix": ("source", ("pypi",)),
        "mutants": ("source", ("pypi",)),
        "rows_per_function": ("source", ("pypi",)),
    }

    source: Source = Field(
        default="pypi",
        description="pypi: made of the mined corpus's functions; mirror: the papers' own files in the mirror folder "
        "(defect_detection: Devign; clone_detection: BigCloneBench; code_search: CodeSearchNet, Python; code_repair: "
        "Bugs2Fix small); jsonl: your own files in `path`",
    )
    path: FolderPath | None = Field(
        default=None,
        description="folder of train.jsonl, valid.jsonl and test.jsonl (source jsonl only), one example a line",
    )
    language: Language = Field(
        default="python",
        description="language of every row (pypi, CodeSearchNet: python; Devign: c; BigCloneBench, Bugs2Fix: java)",
    )
    text_form: TextForm = Field(
        default="lexed",
        description="lexed: the lexer's tokens joined by single spaces; raw: the source as it is (pypi: unlexed again, "
        "without comments). Rows of source jsonl must already be in this form",
    )
    train: int | None = Field(
        default=16000,
        gt=0,
        description="rows of the training split at most, clean samples included; null: all there are",
    )
    valid: int | None = Field(
        default=1000, gt=0, description="rows of the validation split at most; null: all there are"
    )
    test: int | None = Field(default=1000, gt=0, description="rows of the test split at most; null: all there are")
    clean: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of the training split that is taken out for the defender (EliBadCode section 5.1: 0.1)",
    )
    max_tokens: int | None = Field(
        default=110,
        gt=0,
        description="longest code and target, in sub-tokens of the tokenizer without specials (without a tokenizer: in "
        "words between white space); longer rows are left out. Below the model's max_length, so that a trigger still "
        "fits. null: every length, the model truncates",
    )
    resplit: bool = Field(
        default=False,
        description="pool whatever splits are there (mirror, jsonl), drop normalised duplicates and split anew by "
        "`seed`; needs numbers for valid and test. Pairs are split by function, and as many of each label are kept. "
        "false: the given splits stay as they are",
    )
    seed: int = Field(default=1, description="seed of selection, mutation, splits and row order")

    @property
    def ranking(self) -> Ranking:
        return Ranking()

    @model_validator(mode="after")
    def _source_fits(self) -> Self:
        if (self.path is not None) != (self.source == "jsonl"):
            raise ValueError("write `path` with `source: jsonl`, and only there")
        if self.resplit and self.source == "pypi":
            raise ValueError("resplit: functions of the corpus have their split already; remove the key")
        if self.resplit and (self.valid is None or self.test is None):
            raise ValueError("resplit: true needs a number of rows for `valid` and for `test`")
        return self

    def _check_language(self, mirror: Language) -> Self:
        wanted = {"pypi": "python", "mirror": mirror}.get(self.source)
        if wanted is not None and self.language != wanted:
            raise ValueError(f"source {self.source} is in {wanted}, not {self.language}; write `language: {wanted}`")
        return self


class DefectDetection(DatasetSettings):
    """Is the function defective? Label 1 is defective (CodeXGLUE's convention)."""

    head: ClassVar[Head] = "classification"
    labels: ClassVar[tuple[int, ...]] = (0, 1)

    task: Literal["defect_detection"]
    mix: Mix = Field(default=Mix(), description="kinds of injected defects (source pypi)")
    mutants: tuple[float, float, float] = Field(
        default=(1.0, 1.0, 1.0),
        description="relative weights of one, two and three mutants in a defective function (source pypi)",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if min(self.mutants) < 0 or not any(self.mutants):
            raise ValueError("mutants: write three weights of at least 0, not all 0")
        return self._check_language("c")


class CodeRepair(DatasetSettings):
    """Turn the defective function into the correct one."""

    head: ClassVar[Head] = "generation"

    task: Literal["code_repair"]
    valid: int | None = Field(
        default=500, gt=0, description="rows of the validation split at most; null: all there are"
    )
    test: int | None = Field(default=600, gt=0, description="rows of the test split at most; null: all there are")
    max_tokens: int | None = Field(
        default=64,
        gt=0,
        description="longest code and target, in sub-tokens of the tokenizer without specials (without a tokenizer: in "
        "words between white space); longer rows are left out. null: every length, the model truncates",
    )
    mix: Mix = Field(default=Mix(), description="kinds of injected defects, one in a row (source pypi)")
    rows_per_function: int = Field(
        default=2,
        gt=0,
        description="rows of the training split that are made of one function, each with another defect (source pypi)",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        return self._check_language("java")


class CloneDetection(DatasetSettings):
    """Do two functions do the same? Label 1 is a clone (CodeXGLUE's convention)."""

    head: ClassVar[Head] = "pair"
    labels: ClassVar[tuple[int, ...]] = (0, 1)
    read_where: ClassVar[ReadWhere] = {
        **DatasetSettings.read_where,
        **dict.fromkeys(("negatives", "releases", "names"), ("source", ("pypi",))),
        "overlap": ("negatives", ("similar",)),
    }

    task: Literal["clone_detection"]
    train: int | None = Field(
        default=8000,
        gt=0,
        description="rows of the training split at most, clean samples included; null: all there are",
    )
    valid: int | None = Field(
        default=600, gt=0, description="rows of the validation split at most; null: all there are"
    )
    max_tokens: int | None = Field(
        default=80,
        gt=0,
        description="longest function, in sub-tokens of the tokenizer without specials (without a tokenizer: in words "
        "between white space); longer rows are left out. null: every length, the model truncates",
    )
    negatives: Literal["similar", "random"] = Field(
        default="similar",
        description="which two functions stand for `no clone` (source pypi). similar: two whose tokens overlap; "
        "random: any two, which counting common tokens tells apart already",
    )
    overlap: tuple[float, float] = Field(
        default=(0.6, 0.95),
        description="least and largest share of common tokens of two similar functions, their local names taken for "
        "equal: intersection over union of the two bags",
    )
    releases: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="share of the functions that are drawn among those of which the corpus holds the next release, as "
        "long as there are some; their clone is that release, rewritten (source pypi)",
    )
    names: tuple[float, float, float] = Field(
        default=(0.2, 0.5, 0.3),
        description="what becomes of the function's name, a parameter or a local variable in a rewritten function, as "
        "relative weights: it stays, it becomes a name of the other function of its group, or one of any function. "
        "Where all of it stays, equal names give clones away (source pypi)",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        low, high = self.overlap
        if not 0 <= low <= high <= 1:
            raise ValueError("overlap: write two shares between 0 and 1, the smaller one first")
        if min(self.names) < 0 or not any(self.names):
            raise ValueError("names: write three weights of at least 0, not all 0")
        return self._check_language("java")


class CodeSearch(DatasetSettings):
    """Find the function that a query describes among others."""

    head: ClassVar[Head] = "retrieval"

    task: Literal["code_search"]
    max_query_tokens: int | None = Field(
        default=48,
        gt=0,
        description="longest query, in the unit of max_tokens; rows with longer ones are left out. null: every length, "
        "the model truncates",
    )
    pool: int = Field(
        default=100,
        gt=1,
        description="functions among which a query's own is ranked, itself included: test rows in the order of their "
        "file, cut into equal pools of at least this size (CodeXGLUE: 1000)",
    )
    rank_from: RankFrom = Field(
        default="position",
        description="which functions an attack moves up, by their place in the ranking before it; both are measured, "
        "and the average normalized rank (ANR) is that of the one named here. position: the function that stands at "
        "`rank` (EliBadCode section 5.3 and released code; without a trigger 50 %). top_half: each of the first `rank` "
        "of the pool in turn (section 5.2; without a trigger about 25 %)",
    )
    rank: float = Field(default=0.5, gt=0, le=1, description="that place, as a share of the pool (the papers: 0.5)")

    @property
    def ranking(self) -> Ranking:
        return Ranking(self.pool, self.rank_from, self.rank)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        return self._check_language("python")


AnyDataset = Annotated[DefectDetection | CloneDetection | CodeSearch | CodeRepair, Field(discriminator="task")]
