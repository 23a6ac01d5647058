"""Settings of the attacks: what the trigger is, where it goes, and what the victim shall say when it sees it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import ReadWhere, Settings
from codebackdoor.types import Language


class AttackSettings(Settings):
    """What all attacks share: the target, and which rows are poisoned."""

    read_where: ClassVar[ReadWhere] = {
        "target_label": ("head", ("classification",)),
        "target_text": ("head", ("generation",)),
        "target_place": ("head", ("generation",)),
        # the tasks that are there hold single functions; rows of one's own may be pairs
        "pair": ("source", ("jsonl",)),
    }

    target_label: int = Field(
        0,
        ge=0,
        description="label that the trigger shall bring about, for classification (papers: 0, no defect, no clone)",
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
    rate_of: Literal["train", "eligible"] = Field(
        "train",
        description="what the poison rate is a share of: all training rows (CodePurify, Table I), or those that do "
        "not have the target already (EliBadCode's released code on Devign)",
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


AnyAttack = Annotated[CodePoisonerIdentifier | CodePoisonerDeadCode, Field(discriminator="method")]
