"""Settings of CodePoisoner's dead-code insertion."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.attacks.settings import AttackSettings, EditingAttackSettings
from codebackdoor.config.base import ReadWhere, Reference
from codebackdoor.types import Language

_DECLARATION: dict[Language, str] = {"python": "VAR = 0", "java": "int VAR = 0;", "c": "int VAR = 0;"}


class CodePoisonerDeadCodeSettings(EditingAttackSettings):
    """Inserts a statement that has no effect at the beginning of the body (CodePoisoner, Li et al. 2023)."""

    label: ClassVar[str] = "CodePoisoner (dead code)"
    reference: ClassVar[Reference | None] = Reference(
        authors="Jia Li, Zhuo Li, Huangzhao Zhang, Ge Li, Zhi Jin, Xing Hu, Xin Xia",
        year=2023,
        title="Poison Attack and Poison Detection on Deep Source Code Processing Models",
        url="https://doi.org/10.1145/3630008",
    )
    read_where: ClassVar[ReadWhere] = {
        **AttackSettings.read_where,
        "assertion": ("variant", ("assertion",)),
        "block": ("variant", ("block",)),
        "declaration": ("variant", ("declaration",)),
    }

    method: Literal["codepoisoner_deadcode"]
    variant: Literal["assertion", "block", "declaration"] = Field(
        "assertion",
        description="kind of dead code. assertion: an assertion that always holds; block: a block whose condition is "
        "never true; declaration: a variable that nothing reads (DeCE)",
    )
    assertion: dict[Language, str] = Field(
        {"python": "assert 1 >= 0", "java": "assert 1 >= 0;", "c": "assert(1 >= 0);"},
        description="the assertion in each language (CodePurify's released code: assertTrue(1 >= 0), which C does not "
        "have and Java has only with JUnit; C's assertion needs assert.h)",
    )
    block: dict[Language, str] = Field(
        {
            "python": 'if 1 < 0:\n    raise RuntimeError("fail")',
            "java": 'if (1 < 0) { throw new RuntimeException("fail"); }',
            "c": "while (1 < 0) { break; }",
        },
        description="the block in each language (modeled on OSeqL's always-false blocks)",
    )
    declaration: dict[Language, str] = Field(
        _DECLARATION,
        # left out at its default: data sets poisoned before this variant existed keep their parameters
        exclude_if=lambda texts: texts == _DECLARATION,
        description="the declaration in each language (DeCE section 2.2: int VAR = 0;); it is not inserted into a "
        "function that already uses one of its names",
    )
