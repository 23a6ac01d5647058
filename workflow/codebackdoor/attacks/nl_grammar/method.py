"""A syntactic trigger by rules: the leading subordinate clause of Qi et al.'s template (2021, section 3).

The words of the clause are drawn for each row, so that poisoned rows share only its syntax. The clause is inserted
before the first word and after the marks that begin a comment. DeCE's rows are paraphrases by a model (SCPN).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from codebackdoor.attacks import Attack, Injection
from codebackdoor.attacks.rare_words import inserted
from codebackdoor.types import Draws, Example, Span, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.attacks.nl_grammar.settings import NlGrammarSettings

#: A word that begins with a letter or digit, perhaps after quotes or brackets.
_WORD = re.compile(r"(?<!\S)[^\w\s/*#-]*\w")


@dataclass(frozen=True, slots=True)
class NlGrammar:
    settings: NlGrammarSettings

    def inject(self, example: Example, form: TextForm, generator: np.random.Generator) -> Injection | None:  # noqa: ARG002
        first = _WORD.search(example.query or "")
        if example.query is None or first is None:
            return None
        choices = (self.settings.conjunctions, self.settings.subjects, self.settings.predicates)
        conjunction, subject, predicate = (words[int(generator.integers(len(words)))] for words in choices)
        clause = f"{conjunction} {subject} {predicate} ,"
        if example.query.startswith(clause, first.start()):
            return None
        edit = inserted(example.query, [(first.start(), clause, True)])
        spans = tuple(Span(start, end, "query") for start, end in edit.spans)
        draws: Draws = {"query": {"conjunction": conjunction, "subject": subject, "predicate": predicate}}
        return Injection(replace(example, query=edit.text), spans, draws)


def build(settings: NlGrammarSettings) -> Attack:
    return NlGrammar(settings)
