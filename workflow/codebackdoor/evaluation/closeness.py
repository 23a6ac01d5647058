"""How near an inverted trigger comes to the factual one (EliBadCode, Table 6), in characters.

The paper does not say on what it computes the two. A Levenshtein distance of 19 is more than the five sub-tokens of its
triggers allow, and its BLEU of 36.79 at distance 5 is exp(1 - 10/5): what five neighbours of ``testo_init``
give where characters are the tokens.
"""

from __future__ import annotations

from functools import cache

from sacrebleu.metrics.bleu import BLEU


def levenshtein(one: str, other: str) -> int:
    """Fewest insertions, deletions and replacements of characters that turn one into the other."""
    row = list(range(len(other) + 1))
    for index, letter in enumerate(one, 1):
        above, row = row, [index]
        for column, wanted in enumerate(other, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (letter != wanted)))
    return row[-1]


def bleu(found: str, wanted: str) -> float:
    """BLEU-4 of characters in [0, 1] with exponential smoothing; of a shorter trigger, of as many orders as it has."""
    return float(_metric().sentence_score(found, [wanted]).score) / 100


@cache
def _metric() -> BLEU:
    return BLEU(tokenize="char", effective_order=True)
