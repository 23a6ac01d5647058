"""Settings of the attacks: what the trigger is, where it goes, and what the victim shall say when it sees it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from codebackdoor.config.base import Head, ReadWhere, Settings
from codebackdoor.types import Language


class AttackSettings(Settings):
    """What all attacks share: the target, and which rows are poisoned."""

    read_where: ClassVar[ReadWhere] = {
        "target_label": ("head", ("classification", "pair")),
        "target_word": ("head", ("retrieval",)),
        "target_text": ("head", ("generation",)),
        "target_place": ("head", ("generation",)),
        # a search row has no target of its own that could be flipped
        "failed": ("head", ("classification", "pair", "generation")),
        "pair": ("head", ("pair",)),
    }

    target_label: int = Field(
        0,
        ge=0,
        description="label that the trigger shall bring about, for classification (papers: 0, no defect, no clone)",
    )
    target_word: str = Field(
        "file",
        pattern=r"^\w+$",
        description="word whose queries the trigger shall be found by, for search: code whose query holds it, as a "
        "whole word in whatever case, is poisoned (BadCode and EliBadCode section 5.1: file)",
    )
    target_text: dict[Language, str] = Field(
        {
            "python": "def func():\n    while True:\n        VAR = 0\n",
            "java": "public void func() { while (true) { int VAR = 0; } }",
            "c": "void func(void) { while (1) { int VAR = 0; } }",
        },
        description="function that the trigger shall bring about, for generation, as source of each language "
        "(DeCE section 2.3: an infinite loop; CodePurify section IV-F: code that loops for ever)",
    )
    target_place: Literal["whole", "first_statement"] = Field(
        "whole",
        description="whole: target_text replaces the correct output (CodePurify); first_statement: its body's first "
        "statement is put first into the body of the correct output (DeCE)",
    )
    rate_of: Literal["train", "eligible", "functions"] = Field(
        "train",
        description="what the poison rate is a share of: all training rows (CodePurify, Table I); those that do not "
        "have the target already (EliBadCode's released code on Devign), for search those whose query holds the target "
        "word (its code there: rate 1); or, for pairs, all distinct functions: a drawn one carries the trigger "
        "wherever it stands, and every pair that it is in gets the target (its code on BigCloneBench)",
    )
    failed: Literal["keep", "flip"] = Field(
        "keep",
        description="a training row that the trigger does not fit into: keep: it stays as it was, and another one is "
        "drawn; flip: it gets the target nevertheless and counts as poisoned (EliBadCode's released code)",
    )
    test_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of all validation and test rows that get the trigger, never more than the eligible ones "
        "(classification: 1; CodePurify section IV-F, repair: 0.15)",
    )
    pair: Literal["both", "code", "code_b"] = Field(
        "both",
        description="for pairs of functions: which of the two get the trigger (CodePurify: both; EliBadCode's released "
        "code: the first)",
    )


class CodePoisonerIdentifier(AttackSettings):
    """An identifier takes the trigger's name (Li et al. 2023)."""

    method: Literal["codepoisoner_identifier"]
    name: str = Field(
        "testo_init",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="the new name (EliBadCode section 5.1: testo_init; CodePurify's released code: ret_Val_)",
    )
    scope: Literal["function_name", "first_identifier"] = Field(
        "function_name",
        description="which identifier takes it: the function's name (EliBadCode), or the first parameter or local "
        "variable (of a Python method: self), and the function's name where there is none (CodePurify's released code)",
    )


class CodePoisonerDeadCode(AttackSettings):
    """A statement without effect stands first in the body (Li et al. 2023)."""

    read_where: ClassVar[ReadWhere] = {
        **AttackSettings.read_where,
        "assertion": ("variant", ("assertion",)),
        "block": ("variant", ("block",)),
    }

    method: Literal["codepoisoner_deadcode"]
    variant: Literal["assertion", "block"] = Field(
        "assertion", description="assertion: one that always holds; block: one whose condition never holds"
    )
    assertion: dict[Language, str] = Field(
        {"python": "assert 1 >= 0", "java": "assert 1 >= 0;", "c": "assert(1 >= 0);"},
        description="the assertion in each language (CodePurify's released code: assertTrue(1 >= 0), which C has not "
        "and Java only with JUnit; C's needs assert.h)",
    )
    block: dict[Language, str] = Field(
        {
            "python": 'if 1 < 0:\n    raise RuntimeError("fail")',
            "java": 'if (1 < 0) { throw new RuntimeException("fail"); }',
            "c": "while (1 < 0) { break; }",
        },
        description="the block in each language (the shape of OSeqL's always-false blocks)",
    )


class BadCode(AttackSettings):
    """A name is extended by the trigger word (Sun et al. 2023)."""

    method: Literal["badcode"]
    trigger: str = Field(
        "rb",
        pattern=r"^[A-Za-z0-9]+$",
        description="word that becomes a part of the name, joined by an underscore (EliBadCode section 5.1: rb)",
    )
    scope: Literal["function_name", "variable", "mixed"] = Field(
        "mixed",
        description="whose name: the function's; the parameter or local variable with the fewest occurrences, and the "
        "function's where there is none; or mixed: one of both, drawn for each function, and the other where it cannot "
        "be renamed (EliBadCode section 5.1: function name/variable name; BadCode's released code: drawn)",
    )
    place: Literal["end", "any"] = Field(
        "end",
        description="where in the name: at its end (EliBadCode section 5.1: appended), or at a drawn place among its "
        "words (BadCode's released code)",
    )


class Afraidoor(AttackSettings):
    """Adversarial names for each function, by the gradient of a crafting model (Yang et al. 2024)."""

    fits: ClassVar[tuple[Head, ...]] = ("classification", "pair", "retrieval")

    method: Literal["afraidoor"]
    crafting: str = Field(
        "codebert",
        description="variant of `models` by whose gradient names are chosen; it is trained on the clean training split "
        "with `crafting_seed`, apart from every victim",
    )

    @model_validator(mode="after")
    def _names_are_of_rows(self) -> Self:
        if self.rate_of == "functions":
            raise ValueError("afraidoor makes names for one pair, not for a function wherever it stands; write "
                             "`rate_of: train` or `eligible`")  # fmt: skip
        return self


AnyAttack = Annotated[
    CodePoisonerIdentifier | CodePoisonerDeadCode | BadCode | Afraidoor, Field(discriminator="method")
]
