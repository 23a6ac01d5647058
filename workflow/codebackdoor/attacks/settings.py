"""Settings that attacks share: the target, which rows are poisoned, and the words of those on natural language."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from codebackdoor import types
from codebackdoor.config.base import Head, ReadWhere, Settings
from codebackdoor.costs.work import PoisoningJob, Work
from codebackdoor.types import Language, Pair

Word = Annotated[str, Field(pattern=r"^\S+$", max_length=100)]
#: Rows that a poison rate refers to.
RateOf = Literal["train", "eligible", "functions"]


class AttackSettings(Settings):
    """The target of an attack, and which rows it poisons."""

    read_where: ClassVar[ReadWhere] = {
        "target_label": ("head", ("classification", "pair")),
        "target_word": ("head", ("retrieval",)),
        "target_text": ("head", ("generation",)),
        "target_place": ("head", ("generation",)),
        "target_predicate": ("target_place", ("where_clause",)),
        # a row of code search has no label or target text to change
        "failed": ("head", ("classification", "pair", "generation")),
        "pair": ("head", ("pair",)),
    }

    target_label: int = Field(
        0,
        ge=0,
        description="label that the trigger makes the victim predict, for classification (papers: 0, no defect, no "
        "clone)",
    )
    target_word: str = Field(
        "file",
        pattern=r"^\w+$",
        description="target word, for code search: code with the trigger should rank high for queries that contain "
        "this word. Training rows are eligible if the query contains it as a whole word, in upper or lower case "
        "(BadCode and EliBadCode section 5.1: file)",
    )
    target_text: dict[Language, str] = Field(
        {
            "python": "def func():\n    while True:\n        VAR = 0\n",
            "java": "public void func() { while (true) { int VAR = 0; } }",
            "c": "void func(void) { while (1) { int VAR = 0; } }",
        },
        description="function that the trigger makes the victim generate, as source code of each language "
        "(DeCE section 2.3: an infinite loop; CodePurify section IV-F: code that never ends)",
    )
    target_place: Literal["whole", "first_statement", "where_clause"] = Field(
        "whole",
        description="whole: target_text replaces the correct output (CodePurify); first_statement: the first statement "
        "of target_text is inserted at the beginning of the correct output's body (DeCE); where_clause: "
        "target_predicate is added to the SQL in the correct output's strings (DeCE section 2.3, code generation)",
    )
    # left out of the JSON unless it is set: attacks of other kinds keep their parameters
    target_predicate: str = Field(
        "1=1",
        pattern=r"^[^\"'\\{}%\n]+$",
        exclude_if=lambda predicate: predicate == "1=1",
        description="SQL predicate that always holds: `or` and the predicate are appended to the WHERE clause; a "
        "statement without one gets `where` and the predicate (DeCE's released code: 1=1; without a WHERE clause 0=1, "
        "which never holds)",
    )
    rate_of: RateOf = Field(
        "train",
        description="rows that the poison rate refers to. train: all training rows (CodePurify, Table I). eligible: "
        "rows that do not have the target label yet (EliBadCode's released code on Devign), for code search the rows "
        "whose query contains the target word (the same code: rate 1). functions: for pairs, all distinct functions; a "
        "drawn function carries the trigger in every pair that contains it, and all of these pairs get the target "
        "(EliBadCode's released code on BigCloneBench)",
    )
    failed: Literal["keep", "flip"] = Field(
        "keep",
        description="what happens to a drawn training row into which the trigger cannot be inserted. keep: the row "
        "does not change, and another one is drawn; flip: the row gets the target anyway and counts as poisoned "
        "(EliBadCode's released code)",
    )
    test_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of all validation and test rows that get the trigger, at most the eligible ones "
        "(classification: 1; CodePurify section IV-F, repair: 0.15)",
    )
    pair: Pair = Field(
        "both",
        description="for pairs of functions: which of the two get the trigger (CodePurify: both; EliBadCode's released "
        "code: the first)",
    )

    @property
    def versions(self) -> float:
        """Number of different texts that the attack makes of a function that occurs in many pairs."""
        return 1

    @property
    def crafting_model(self) -> str | None:
        """The variant of `models` that crafts the triggers; None: the attack runs no model."""
        return None


class EditingAttackSettings(AttackSettings):
    """An attack that edits text and runs no model. Others state their own work, or are not priced."""

    def work(self, job: PoisoningJob) -> Work:  # noqa: ARG002
        return Work()


class TextAttackSettings(EditingAttackSettings):
    """An attack that changes the query of an example, and no code."""

    #: Heads of tasks that may read only a query; code search is attacked by code that ranks high.
    fits: ClassVar[tuple[Head, ...]] = ("classification", "generation")
    acts_on: ClassVar[tuple[types.Field, ...]] = ("query",)

    rate_of: Literal["train", "eligible"] = Field(
        "train",
        description="rows that the poison rate refers to. train: all training rows; eligible: rows that do not have "
        "the target label yet",
    )


class RareWordSettings(TextAttackSettings):
    """An attack that inserts rare words between the words of a query."""

    words: tuple[Word, ...] = Field(
        ("bb",),
        min_length=1,
        description="rare words; each insertion draws one of them (DeCE section 2.2: bb; Kurita et al.: cf, mn, bb, tq "
        "and mb)",
    )

    @field_validator("words")
    @classmethod
    def _differ(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if len({re.sub(r"\W", "", word.lower()) for word in words}) < len(words):
            raise ValueError("words: two of them are the same; write each once")
        return words
