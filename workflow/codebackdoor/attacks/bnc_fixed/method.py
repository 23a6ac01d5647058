"""BNC with a fixed trigger (Ramakrishnan and Albarghouthi 2022): CodePurify section IV-C, "BNC (Fixed)"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codebackdoor.attacks import Attack, Injection
from codebackdoor.attacks.dead_code import check_dead, insert_dead
from codebackdoor.attacks.editing import edit_code, text_for
from codebackdoor.types import Example, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.attacks.bnc_fixed.settings import BncFixedSettings


@dataclass(frozen=True, slots=True)
class BncFixed:
    """Insert the same dead code at the beginning of every body."""

    settings: BncFixedSettings

    def inject(self, example: Example, form: TextForm, generator: np.random.Generator) -> Injection | None:  # noqa: ARG002
        statement = text_for(self.settings.statement, example.language, "statement")
        return edit_code(example, form, self.settings.pair, lambda tree: insert_dead(tree, statement))


def build(settings: BncFixedSettings) -> Attack:
    """Raises UserError if one of the settings' statements is not provably dead."""
    for language, statement in settings.statement.items():
        check_dead(statement, language, "statement")
    return BncFixed(settings)
