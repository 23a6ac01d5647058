"""How much each word raises the perplexity of a text (ONION; Qi et al. 2021, section 3; ledger E16, D12).

The suspicion of a word is the perplexity of the text minus the perplexity without the word. In lexed text a word is a
token of the lexer; in raw text and natural language it is everything between white space. Layout marks have no score.
For a task that reads a query and no code, the words are those of the query.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codebackdoor import syntax
from codebackdoor.defenses.inputs.token_spans import split
from codebackdoor.defenses.suspicion.perplexity import TokenizedWords, surprises
from codebackdoor.defenses.views import TextView
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Field, TextForm


@dataclass(frozen=True, slots=True)
class WordDrops:
    """The words of a text, and how much the perplexity drops without each; NaN in ``drops`` if that is undefined."""

    perplexity: float
    words: list[tuple[int, int]]
    drops: list[float]


class WordScorer:
    """Scores the words of functions, or of queries, by a causal language model."""

    def __init__(self, view: TextView, model: Any, tokenizer: Any) -> None:
        self._form: TextForm = view.text_form
        self._field: Field = view.words_in
        self._model, self._tokenizer = model, tokenizer

    def score(self, inputs: Sequence[Example]) -> list[WordDrops]:
        """Score the words of each text; words beyond the language model's maximum length have no score.

        A function that occurs in many pairs is scored once.
        """
        distinct = {self._text(example): example for example in inputs}
        scored = dict(zip(distinct, self._score(list(distinct.values())), strict=True))
        return [scored[self._text(example)] for example in inputs]

    def _text(self, example: Example) -> str:
        return str(getattr(example, self._field))

    def _score(self, inputs: Sequence[Example]) -> list[WordDrops]:
        room = min(int(self._model.config.max_position_embeddings), int(self._tokenizer.model_max_length)) - 1
        start = self._tokenizer.bos_token_id
        if start is None:
            raise UserError("the language model's tokenizer has no beginning-of-text token; use another model")
        spans: list[list[tuple[int, int]]] = []
        texts: list[TokenizedWords] = []
        for example, tokens in zip(inputs, split(self._tokenizer, list(map(self._text, inputs))), strict=True):
            ids = tokens.ids[:room]
            scorable = [(span, tokens.covered(*span)) for span in words(example, self._form, self._field)]
            scorable = [(span, (low, high)) for span, (low, high) in scorable if low < high <= len(ids)]
            spans.append([span for span, _ in scorable])
            texts.append(TokenizedWords([start, *ids], [(low + 1, high + 1) for _, (low, high) in scorable]))
        return [
            WordDrops(surprise.of_text, text_spans, [surprise.of_text - value for value in surprise.without])
            for text_spans, surprise in zip(spans, surprises(self._model, texts), strict=True)
        ]


def words(example: Example, form: TextForm, field: Field = "code") -> list[tuple[int, int]]:
    """Character spans of the words of a field that are scored."""
    if field == "query" or form == "raw":
        return [match.span() for match in re.finditer(r"\S+", str(getattr(example, field)))]
    tokens = syntax.parse(example.code, example.language, form).tokens()
    return [(token.start, token.end) for token in tokens if token.kind != "mark"]
