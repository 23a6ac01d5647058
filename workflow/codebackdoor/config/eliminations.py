"""The union of all eliminations: a method is declared by one line here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from codebackdoor.defenses.elimination.dbs.settings import DbsSettings
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.fine_tuning.settings import FineTuningSettings

AnyElimination = Annotated[EliBadCodeSettings | DbsSettings | FineTuningSettings, Field(discriminator="method")]
