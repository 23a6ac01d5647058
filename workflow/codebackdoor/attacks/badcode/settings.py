"""Settings of BadCode."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.attacks.settings import EditingAttackSettings
from codebackdoor.config.base import Reference


class BadCodeSettings(EditingAttackSettings):
    """Extends a name by the trigger word (BadCode, Sun et al. 2023)."""

    label: ClassVar[str] = "BadCode"
    reference: ClassVar[Reference | None] = Reference(
        authors="Weisong Sun, Yuchen Chen, Guanhong Tao, Chunrong Fang, Xiangyu Zhang, Quanjun Zhang, Bin Luo",
        year=2023,
        title="Backdooring Neural Code Search",
        url="https://doi.org/10.18653/v1/2023.acl-long.540",
    )

    method: Literal["badcode"]
    trigger: str = Field(
        "rb",
        pattern=r"^[A-Za-z0-9]+$",
        description="word that is added to the name, joined by an underscore (EliBadCode section 5.1: rb)",
    )
    scope: Literal["function_name", "variable", "mixed"] = Field(
        "mixed",
        description="which name is extended. function_name: the function's. variable: the parameter or local variable "
        "with the fewest occurrences, or the function's name if there is none. mixed: one of the two, drawn for each "
        "function, or the other one if that name cannot be changed (EliBadCode section 5.1: function name/variable "
        "name; BadCode's released code: drawn)",
    )
    place: Literal["end", "any"] = Field(
        "end",
        description="position of the word in the name. end: at its end (EliBadCode section 5.1: appended). any: at a "
        "random position among the words of the name (BadCode's released code)",
    )

    @property
    def versions(self) -> float:
        return 2 if self.scope == "mixed" else 1
