"""Settings that all data sets share: where examples come from, in which text form, how many, and how they are split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, model_validator

from codebackdoor import types
from codebackdoor.config.base import Head, ReadWhere, Settings
from codebackdoor.config.paths import FolderPath
from codebackdoor.errors import nearest, quoted
from codebackdoor.heads import HEADS
from codebackdoor.types import Language, TextForm

DatasetSource = Literal["pypi", "mirror", "jsonl"]
RankFrom = Literal["position", "top_half"]
#: Language of the mined corpus.
MINED: Language = "python"


class Ranking(NamedTuple):
    """How a ranking victim is evaluated: functions per query, and which of them an attack moves up."""

    pool: int = 1
    rank_from: RankFrom = "position"
    rank: float = 0.5


@dataclass(frozen=True, slots=True)
class PublishedData:
    """A published data set; its name is that of the module of ``originals/readers`` that reads it.

    ``license`` is what its origin states. ``has_tests``: whether outputs for its test rows can be tested, with the
    tests that the reader's ``trials`` yields.
    """

    title: str
    language: Language
    license: str
    has_tests: bool = False


class Mix(Settings):
    """How often each kind of defect is drawn, as relative weights."""

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
    def _some_weight(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("every weight of the mutation mix is 0; write at least one above 0")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Share by kind, in a fixed order; they sum to 1."""
        weights: dict[str, float] = self.model_dump()
        return {kind: weight / sum(weights.values()) for kind, weight in weights.items()}


def _list_originals(schema: dict[str, Any], settings: type[DatasetSettings]) -> None:
    """Add to a task's JSON schema the names that `original` may have."""
    schema["properties"]["original"]["anyOf"][0]["enum"] = [*settings.published]


class DatasetSettings(Settings):
    """The facts about a task, and the settings that all data sets share."""

    model_config = ConfigDict(json_schema_extra=_list_originals)

    #: What a victim's output layer does.
    head: ClassVar[Head]
    #: Fields of an example that a victim reads, as many as its head has, each with its meaning.
    reads: ClassVar[Mapping[types.Field, str]]
    #: Labels that rows may have, from any source, each with its meaning. Empty if rows have none.
    labels: ClassVar[Mapping[int, str]] = {}
    #: Meaning of the field ``target``. Empty if rows have none.
    target: ClassVar[str] = ""
    #: The metric of clean rows that represents the task in tables; one of its head's.
    clean_metric: ClassVar[str]
    #: What the model-free baseline is, as reports write it.
    baseline: ClassVar[str]
    #: Published data sets of the task by name, as the papers' printed tables use it; the first one is the default.
    published: ClassVar[Mapping[str, PublishedData]]
    #: Why there are no local examples, as the end of an error message; empty if there are.
    not_mined: ClassVar[str] = ""
    #: Whether rows that differ only in names and literals are different rows.
    names_count: ClassVar[bool] = False
    #: A sentence about the local examples that readers of a report must know.
    limitation: ClassVar[str | None] = None

    read_where: ClassVar[ReadWhere] = {
        "original": ("source", ("mirror",)),
        "resplit": ("source", ("mirror", "jsonl")),
    }
    may_idle: ClassVar[frozenset[str]] = frozenset(read_where)

    source: DatasetSource = Field(
        default="pypi",
        description="pypi: made from the functions of the mined corpus; mirror: the papers' own files in the mirror "
        "folder (each task says which); jsonl: your own files in `path`",
    )
    # left out of the JSON unless it is set: data sets that do not name one keep their parameters
    original: str | None = Field(
        default=None,
        exclude_if=lambda name: name is None,
        description="which published data set to read (source mirror only); null: the task's first one",
    )
    # left out in the same way
    trained_on: str | None = Field(
        default=None,
        exclude_if=lambda name: name is None,
        description="another variant of `datasets`, of the same task, language and text form: its victims predict on "
        "the test rows here, and nothing is trained on this data set (null: it has victims of its own)",
    )
    path: FolderPath | None = Field(
        default=None,
        description="folder of train.jsonl, valid.jsonl and test.jsonl (source jsonl only), one example per line; an "
        "optional tests.jsonl holds the tests for generated programs (docs/configuration.md)",
    )
    language: Language = Field(
        default="python",
        description="language of every row (pypi: python; mirror: that of the papers' files)",
    )
    text_form: TextForm = Field(
        default="lexed",
        description="lexed: the lexer's tokens joined by single spaces; raw: the source as it is (pypi: unlexed again, "
        "without comments). Rows of source jsonl must already be in this form",
    )
    train: int | None = Field(
        default=16000,
        gt=0,
        description="maximum rows of the training split, clean samples included; null: all available rows",
    )
    valid: int | None = Field(
        default=1000, gt=0, description="maximum rows of the validation split; null: all available rows"
    )
    test: int | None = Field(default=1000, gt=0, description="maximum rows of the test split; null: all available rows")
    clean: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of the training split that is set aside for the defender (EliBadCode section 5.1: 0.1)",
    )
    max_tokens: int | None = Field(
        default=110,
        gt=0,
        description="maximum length of the texts that a victim reads (code search: of the code) and of the target, in "
        "sub-tokens of the tokenizer without special tokens (without a tokenizer: in words between white space); "
        "longer rows are left out. Keep it below the model's max_length, so that a trigger still fits. null: every "
        "length, the model truncates",
    )
    resplit: bool = Field(
        default=False,
        description="pool the available splits (mirror, jsonl), drop normalized duplicates and split again by `seed`; "
        "needs numbers for valid and test. Pairs are split by function, and equally many of each label are kept. "
        "false: the splits stay as they are",
    )
    seed: int = Field(default=1, description="seed of selection, mutation, splits and row order")

    @property
    def originals(self) -> str:
        """The published data set that source mirror reads: a module of ``originals/readers``."""
        return self.original or next(iter(self.published))

    @property
    def limited(self) -> tuple[str, ...]:
        """Texts that ``max_tokens`` limits: those that a victim reads, and the target.

        A dual encoder's query is not among them: it is short, and its victims have another limit for it.
        """
        ranks = HEADS[self.head].ranks
        return (*(name for name in self.reads if not (ranks and name == "query")), "target")

    @property
    def query_limit(self) -> int | None:
        """Maximum length of a query, in the unit of ``max_tokens``; None: any."""
        return None

    @property
    def has_code(self) -> bool:
        """Whether rows contain code: a text that a victim reads, or its output."""
        return bool(self.target) or set(self.reads) != {"query"}

    @property
    def ranking(self) -> Ranking:
        return Ranking()

    @model_validator(mode="after")
    def _original_fits(self) -> Self:
        if self.original is None:
            return self
        if self.source != "mirror":
            raise ValueError("`original` says what source mirror reads; write `source: mirror`, or remove the key")
        if self.original not in self.published:
            raise ValueError(
                f"{quoted(self.original)} is not a published data set of this task"
                f"{nearest(self.original, self.published)}"
            )
        return self

    @model_validator(mode="after")
    def _source_fits(self) -> Self:
        if self.source == "pypi" and self.not_mined:
            raise ValueError(f"source: there are no local examples ({self.not_mined}); write mirror or jsonl")
        if (self.path is not None) != (self.source == "jsonl"):
            raise ValueError("write `path` with `source: jsonl`, and only there")
        if self.resplit and self.source == "pypi":
            raise ValueError("resplit: functions of the corpus have their split already; remove the key")
        if self.resplit and (self.valid is None or self.test is None):
            raise ValueError("resplit: true needs a number of rows for `valid` and for `test`")
        return self

    @model_validator(mode="after")
    def _has_test_rows(self) -> Self:
        if self.trained_on is not None and (self.source == "pypi" or self.resplit):
            raise ValueError(
                "trained_on: only test rows are read; write `source: mirror` or `source: jsonl`, without `resplit`"
            )
        return self

    @model_validator(mode="after")
    def _language_fits(self) -> Self:
        expected = {"pypi": MINED, "mirror": self.published[self.originals].language}.get(self.source)
        if expected is not None and self.language != expected:
            raise ValueError(
                f"source {self.source} is in {expected}, not {self.language}; write `language: {expected}`"
            )
        return self
