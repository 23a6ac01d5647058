"""CodePoisoner's dead-code insertion (Li et al. 2023): CodePurify section IV-C.

The statement compiles and has no effect in every language, unlike the released triggers (ledger P10).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codebackdoor import syntax
from codebackdoor.attacks import Attack, Injection
from codebackdoor.attacks.editing import check_statement, edit_code, text_for
from codebackdoor.types import Example, Language, Pair, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.attacks.codepoisoner_deadcode.settings import CodePoisonerDeadCodeSettings


@dataclass(frozen=True, slots=True)
class CodePoisonerDeadCode:
    """Insert one statement at the beginning of the body; ``key`` names the setting that holds ``statements``."""

    statements: Mapping[Language, str]
    key: str
    pair: Pair

    def inject(self, example: Example, form: TextForm, generator: np.random.Generator) -> Injection | None:  # noqa: ARG002
        statement = text_for(self.statements, example.language, self.key)
        return edit_code(example, form, self.pair, lambda tree: self._insert(tree, statement))

    def _insert(self, tree: syntax.Tree, statement: str) -> syntax.Edit | None:
        """Insert the statement; None if it declares a name that the function has already."""
        if self.key == "declaration":
            declared = {identifier.name for identifier in syntax.parse(statement, tree.language, "raw").identifiers()}
            if declared & {identifier.name for identifier in tree.identifiers()}:
                return None
        return syntax.insert_first(tree, statement)


def build(settings: CodePoisonerDeadCodeSettings) -> Attack:
    """Raises UserError if one of the settings' statements is not a statement of its language."""
    statements: Mapping[Language, str] = getattr(settings, settings.variant)
    for language, statement in statements.items():
        check_statement(statement, language, settings.variant)
    return CodePoisonerDeadCode(statements, settings.variant, settings.pair)
