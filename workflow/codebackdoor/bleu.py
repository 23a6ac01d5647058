"""BLEU as sums over rows, so that it can be resampled.

``bleu`` is case-sensitive corpus BLEU-4 with one reference, on the tokens of the text form, with exponential smoothing
of orders without a match: ``sacrebleu.corpus_bleu(..., tokenize="none", force=True, smooth_method="exp") / 100``.
``bleu_sentence``, the other common definition for code, is the mean of sentence BLEU-4 with one added to matches and
counts from the second order on (Lin and Och 2004).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

ORDERS = (1, 2, 3, 4)
MICRO = 1_000_000
BLEU_NAMES = (
    "length",
    "reference_length",
    *(f"match{n}" for n in ORDERS),
    *(f"total{n}" for n in ORDERS),
    "sentence_micro",
)


def ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


def row(tokens: Sequence[str], reference: Sequence[str]) -> dict[str, int]:
    """Statistics of one output against its reference; keys: ``BLEU_NAMES``; sentence BLEU is in millionths."""
    values = statistics(tokens, reference)
    values["sentence_micro"] = round(MICRO * score(values, smoothing="add-k"))
    return values


def statistics(tokens: Sequence[str], reference: Sequence[str]) -> dict[str, int]:
    """Lengths, and the matches and counts of every order, for one output and its reference."""
    values = {"length": len(tokens), "reference_length": len(reference)}
    for order in ORDERS:
        counts = ngrams(tokens, order)
        values[f"match{order}"] = (counts & ngrams(reference, order)).total()
        values[f"total{order}"] = counts.total()
    return values


def corpus(outputs: Iterable[str], references: Iterable[str]) -> float:
    """Corpus BLEU-4 in [0, 1] of outputs against one reference each; tokens are separated by whitespace."""
    sums: Counter[str] = Counter()
    for output, reference in zip(outputs, references, strict=True):
        sums.update(statistics(output.split(), reference.split()))
    return score(sums)


def score(sums: Mapping[str, float], first: tuple[float, float] | None = None, smoothing: str = "exp") -> float:
    """BLEU in [0, 1] of summed statistics; ``first`` replaces the matches and counts of single tokens."""
    # an optional dependency, which scans do not need
    from sacrebleu.metrics.bleu import BLEU

    matches = [sums[f"match{order}"] for order in ORDERS]
    totals = [sums[f"total{order}"] for order in ORDERS]
    if first is not None:
        matches[0], totals[0] = first
    result = BLEU.compute_bleu(
        matches,
        totals,
        sys_len=int(sums["length"]),
        ref_len=int(sums["reference_length"]),
        smooth_method=smoothing,
        smooth_value=1.0 if smoothing == "add-k" else None,
    )
    return float(result.score) / 100
