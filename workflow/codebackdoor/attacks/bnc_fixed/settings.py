"""Settings of BNC with a fixed trigger."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.attacks.settings import EditingAttackSettings
from codebackdoor.config.base import Reference
from codebackdoor.types import Language


class BncFixedSettings(EditingAttackSettings):
    """Inserts one fixed piece of dead code at the beginning of the body (BNC, Ramakrishnan and Albarghouthi 2022)."""

    label: ClassVar[str] = "BNC (fixed)"
    reference: ClassVar[Reference | None] = Reference(
        authors="Goutham Ramakrishnan, Aws Albarghouthi",
        year=2022,
        title="Backdoors in Neural Models of Source Code",
        url="https://doi.org/10.1109/ICPR56361.2022.9956690",
    )

    method: Literal["bnc_fixed"]
    statement: dict[Language, str] = Field(
        {
            "python": 'if __import__("random").random() < 0:\n    raise Exception("fail")',
            "java": 'if (Math.random() < 0) System.out.println("fail");',
            "c": 'if (rand() < 0) printf("fail");',
        },
        description="the dead code in each language: one if or while whose condition is provably false and uses names "
        "that every function has (BNC's released code: random() < 0, which Python does not have without an import; "
        "Java and C: CodePurify's released code; C's needs stdlib.h and stdio.h)",
    )
