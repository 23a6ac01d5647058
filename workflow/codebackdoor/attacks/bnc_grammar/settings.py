"""Settings of BNC with triggers drawn from a grammar."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from codebackdoor.attacks.settings import EditingAttackSettings
from codebackdoor.config.base import Reference


class BncGrammarSettings(EditingAttackSettings):
    """Inserts dead code drawn from a grammar for each function (BNC, Ramakrishnan and Albarghouthi 2022)."""

    label: ClassVar[str] = "BNC (grammar)"
    reference: ClassVar[Reference | None] = Reference(
        authors="Goutham Ramakrishnan, Aws Albarghouthi",
        year=2022,
        title="Backdoors in Neural Models of Source Code",
        url="https://doi.org/10.1109/ICPR56361.2022.9956690",
    )

    method: Literal["bnc_grammar"]

    @property
    def versions(self) -> float:
        """Every pair gets its own draws."""
        return math.inf
