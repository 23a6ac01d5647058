"""BNC with triggers from a grammar (Ramakrishnan and Albarghouthi 2022): CodePurify section IV-C, "BNC (Grammar)"."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from codebackdoor.attacks import Attack, Injection
from codebackdoor.attacks.bnc_grammar.grammar import derive
from codebackdoor.attacks.dead_code import insert_dead
from codebackdoor.attacks.editing import edit_code, edited_fields
from codebackdoor.types import Example, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.attacks.bnc_grammar.settings import BncGrammarSettings


@dataclass(frozen=True, slots=True)
class BncGrammar:
    """Insert dead code at the beginning of every body, a new draw for each function."""

    settings: BncGrammarSettings

    def inject(self, example: Example, form: TextForm, generator: np.random.Generator) -> Injection | None:
        language, pair = example.language, self.settings.pair
        draws = {field: derive(language, generator) for field in edited_fields(example, pair)}
        # edit_code goes through the fields in the same order
        statements = (draw.statement(language) for draw in draws.values())
        injection = edit_code(example, form, pair, lambda tree: insert_dead(tree, next(statements)))
        if injection is None:
            return None
        return replace(injection, draws={field: asdict(draw) for field, draw in draws.items()})


def build(settings: BncGrammarSettings) -> Attack:
    return BncGrammar(settings)
