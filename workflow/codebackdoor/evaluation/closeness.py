"""How close an inverted trigger is to the attacker's (EliBadCode, Table 6), in characters.

The paper does not say what its two metrics count. A Levenshtein distance of 19 is impossible for its triggers of five
sub-tokens, and its BLEU of 36.79 at distance 5 is exp(1 - 10/5), the value of five consecutive characters of
``testo_init`` if the tokens are characters.
"""

from __future__ import annotations

from functools import cache

from sacrebleu.metrics.bleu import BLEU


def levenshtein(first: str, second: str) -> int:
    """The minimum number of insertions, deletions and replacements of characters between two texts."""
    row = list(range(len(second) + 1))
    for index, letter in enumerate(first, 1):
        above, row = row, [index]
        for column, character in enumerate(second, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (letter != character)))
    return row[-1]


def bleu(text: str, reference: str) -> float:
    """Character BLEU-4 in [0, 1] with exponential smoothing; a shorter trigger is scored on the orders that it has."""
    return float(_metric().sentence_score(text, [reference]).score) / 100


@cache
def _metric() -> BLEU:
    return BLEU(tokenize="char", effective_order=True)
