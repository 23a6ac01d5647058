"""Settings of CodePoisoner's identifier renaming."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.attacks.settings import EditingAttackSettings
from codebackdoor.config.base import Reference


class CodePoisonerIdentifierSettings(EditingAttackSettings):
    """Renames an identifier to the trigger (CodePoisoner, Li et al. 2023)."""

    label: ClassVar[str] = "CodePoisoner (identifier)"
    reference: ClassVar[Reference | None] = Reference(
        authors="Jia Li, Zhuo Li, Huangzhao Zhang, Ge Li, Zhi Jin, Xing Hu, Xin Xia",
        year=2023,
        title="Poison Attack and Poison Detection on Deep Source Code Processing Models",
        url="https://doi.org/10.1145/3630008",
    )

    method: Literal["codepoisoner_identifier"]
    name: str = Field(
        "testo_init",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="the new name (EliBadCode section 5.1: testo_init; CodePurify's released code: ret_Val_)",
    )
    scope: Literal["function_name", "first_identifier"] = Field(
        "function_name",
        description="which identifier is renamed: the function's name (EliBadCode), or the first parameter or local "
        "variable (of a Python method: self), and the function's name if there is none (CodePurify's released code)",
    )
