"""BadCode's extension of a name by the trigger word (Sun et al. 2023): EliBadCode section 5.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codebackdoor import syntax
from codebackdoor.attacks import Attack, Injection
from codebackdoor.attacks.editing import edit_code
from codebackdoor.types import Example, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.attacks.badcode.settings import BadCodeSettings


@dataclass(frozen=True, slots=True)
class BadCode:
    """Add the trigger word to one name, at all its occurrences."""

    settings: BadCodeSettings

    def inject(self, example: Example, form: TextForm, generator: np.random.Generator) -> Injection | None:
        return edit_code(example, form, self.settings.pair, lambda tree: self._extend(tree, generator))

    def _extend(self, tree: syntax.Tree, generator: np.random.Generator) -> syntax.Edit | None:
        """Extend the first name that can be extended; None if none is renameable or all extended names are taken."""
        used_names = {identifier.name for identifier in tree.identifiers()}
        for identifier in self._candidates(tree, generator):
            name = self._extended(identifier.name, generator)
            if name not in used_names and syntax.legal_name(name, tree.language):
                return syntax.rename(tree, {identifier.name: name})
        return None

    def _candidates(self, tree: syntax.Tree, generator: np.random.Generator) -> Sequence[syntax.Identifier]:
        """The names in the order in which they are tried; variables with the fewest occurrences come first."""
        renameable = [identifier for identifier in tree.identifiers() if identifier.renameable]
        functions = [identifier for identifier in renameable if identifier.role == "function"]
        # ties are broken at random
        shuffled = [renameable[index] for index in generator.permutation(len(renameable))]
        variables = sorted(
            (identifier for identifier in shuffled if identifier.role != "function"),
            key=lambda identifier: len(identifier.spans),
        )
        if self.settings.scope == "function_name":
            return functions
        if self.settings.scope == "variable":
            return variables + functions
        return functions + variables if generator.random() < 0.5 else variables + functions

    def _extended(self, name: str, generator: np.random.Generator) -> str:
        if self.settings.place == "end":
            return f"{name}_{self.settings.trigger}"
        words = name.strip("_").split("_")
        words.insert(int(generator.integers(0, len(words) + 1)), self.settings.trigger)
        leading = len(name) - len(name.lstrip("_"))
        return "_" * leading + "_".join(words) + name[len(name.rstrip("_")) :]


def build(settings: BadCodeSettings) -> Attack:
    return BadCode(settings)
