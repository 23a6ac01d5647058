"""CodePoisoner's identifier renaming (Li et al. 2023): EliBadCode section 5.1, CodePurify section IV-C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codebackdoor import syntax
from codebackdoor.attacks import Attack, Injection
from codebackdoor.attacks.editing import edit_code
from codebackdoor.errors import UserError
from codebackdoor.types import Example, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.attacks.codepoisoner_identifier.settings import CodePoisonerIdentifierSettings


@dataclass(frozen=True, slots=True)
class CodePoisonerIdentifier:
    """Rename every occurrence of one identifier to the trigger."""

    settings: CodePoisonerIdentifierSettings

    def inject(self, example: Example, form: TextForm, generator: np.random.Generator) -> Injection | None:  # noqa: ARG002
        if not syntax.legal_name(self.settings.name, example.language):
            raise UserError(
                f"name: {self.settings.name!r} is a reserved word of {example.language}; write another name"
            )
        return edit_code(example, form, self.settings.pair, self._rename)

    def _rename(self, tree: syntax.Tree) -> syntax.Edit | None:
        """Rename one identifier; None if the new name is taken or nothing can be renamed."""
        identifiers = tree.identifiers()
        if any(identifier.name == self.settings.name for identifier in identifiers):
            return None
        candidates = [identifier for identifier in identifiers if identifier.renameable]
        functions = [identifier for identifier in candidates if identifier.role == "function"]
        variables = [identifier for identifier in candidates if identifier.role != "function"]
        if self.settings.scope == "function_name":
            variables = []
        identifier = next(iter(variables + functions), None)
        return None if identifier is None else syntax.rename(tree, {identifier.name: self.settings.name})


def build(settings: CodePoisonerIdentifierSettings) -> Attack:
    return CodePoisonerIdentifier(settings)
