"""BLEU and CodeBLEU as released code defines them, for comparison with the papers' printed values.

``bleu_rows`` is the mean over rows of NLTK's sentence BLEU-4 with smoothing method 1 (Chen and Cherry 2014): an order
without matches counts as 0.1 matches, and an output that shares no token with its reference has BLEU 0. DeCE's released
``evaluate/bleu.py`` computes it. ``bleu``, in contrast, is corpus BLEU: on copied inputs of Bugs2Fix it is 78.1, and
``bleu_rows`` is 72.3.

``codebleu_released`` is CodeXGLUE's CodeBLEU. The ``codebleu`` package 0.7.0 differs only for a data flow without any
match, which it counts as perfect. It is the mean of four parts: corpus BLEU with the same smoothing; the same with
recalls instead of precisions, with unigrams weighing five times as much if they are keywords, and with a brevity
penalty that assumes two tokens in every reference (the released code measures the wrong list); the share of the
reference's subtrees that occur in the output, without clipping; and the share of its data-flow edges
(``released_flow``). It is defined for Java and Python.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codebackdoor import syntax
from codebackdoor.bleu import MICRO, ORDERS
from codebackdoor.evaluation import codebleu, released_flow
from codebackdoor.evaluation.intervals import Estimate, Sample
from codebackdoor.evaluation.metrics import Sums, ratio
from codebackdoor.types import Language

#: Number of matches that an order without matches counts as (NLTK's epsilon).
_EPSILON = 0.1
#: Number of tokens of a reference in the brevity penalty of the weighted part.
_REFERENCE_LENGTH = 2
#: Words that the released lists lack, and words that they add, compared with the language's keywords.
_NO_KEYWORDS, _KEYWORDS = frozenset({"_", "false", "null", "true"}), frozenset({"match", "case", "type"})
#: Statistics of a row, including those of ``bleu.row`` except its sentence BLEU.
RELEASED_NAMES = (
    "rows",
    "length",
    "reference_length",
    *(f"match{order}" for order in ORDERS),
    *(f"precision{order}" for order in ORDERS),
    *(f"recall{order}" for order in ORDERS),
    "weighted_match",
    "row_micro",
    "tree_match",
    "tree_total",
    "flow_match",
    "flow_total",
)


def row(
    statistics: Mapping[str, int],
    tokens: Sequence[str],
    reference: Sequence[str],
    root: Any | None,
    reference_root: Any,
    language: Language,
) -> dict[str, int]:
    """Statistics of one output against its reference, from those of ``bleu.row``; the keys are ``RELEASED_NAMES``.

    Denominators of a row are at least 1, as in the released code. Sums are of integers, so BLEU is in millionths, and
    weights are 5 for keywords (instead of 1) and 1 for other tokens (instead of 0.2).
    """
    keywords = (syntax.KEYWORDS[language] - _NO_KEYWORDS) | (_KEYWORDS if language == "python" else frozenset())
    counts = Counter(reference)
    values = {name: statistics[name] for name in ("length", "reference_length")}
    values |= {f"match{order}": statistics[f"match{order}"] for order in ORDERS}
    values |= {f"precision{order}": max(statistics[f"total{order}"], 1) for order in ORDERS}
    values |= {f"recall{order}": max(len(reference) - order + 1, 1) for order in ORDERS}
    values["weighted_match"] = _weigh(counts & Counter(tokens), keywords)
    values["recall1"] = max(_weigh(counts, keywords), codebleu.KEYWORD_WEIGHT)
    values["row_micro"] = round(MICRO * score_bleu(values))
    reference_trees, trees = _subtrees(reference_root), Counter[str]() if root is None else _subtrees(root)
    reference_flow, flow = Counter[Any](), Counter[Any]()
    if released_flow.supports(language):
        reference_flow = released_flow.edges(reference_root, language)
        flow = flow if root is None else released_flow.edges(root, language)
    values["tree_match"] = sum(count for tree, count in reference_trees.items() if tree in trees)
    values["tree_total"] = reference_trees.total()
    values["flow_match"] = (reference_flow & flow).total()
    values["flow_total"] = reference_flow.total()
    return {"rows": 1, **values}


def estimates(
    rows: Sequence[Mapping[str, int]], languages: frozenset[Language], generator: np.random.Generator
) -> dict[str, Estimate]:
    """The metrics of a test set's rows (``row``), separate from ``metrics`` so as not to change its random draws."""
    table = np.array([[values[name] for name in RELEASED_NAMES] for values in rows], dtype=np.int64)
    sample = Sample(RELEASED_NAMES, table.reshape(len(rows), len(RELEASED_NAMES)), generator)
    measures = {"bleu_rows": lambda sums: ratio(sums["row_micro"] / MICRO, sums["rows"])}
    if all(map(released_flow.supports, languages)):
        measures["codebleu_released"] = score_codebleu
    return {name: sample.estimate(measure, len(rows)) for name, measure in measures.items()}


def score_bleu(sums: Sums) -> float:
    """NLTK's BLEU-4 with smoothing method 1 in [0, 1], of the sums over one row or a corpus."""
    shares = [(sums[f"match{order}"], sums[f"precision{order}"]) for order in ORDERS]
    return _geometric(shares, sums["length"], sums["reference_length"])


def score_codebleu(sums: Sums) -> float:
    """CodeXGLUE's CodeBLEU in [0, 1]; a part without a denominator is 0."""
    return sum(parts(sums).values()) / 4


def parts(sums: Sums) -> dict[str, float]:
    """The four parts of CodeBLEU."""
    recalls = [(sums[f"match{order}"], sums[f"recall{order}"]) for order in ORDERS[1:]]
    return {
        "ngram": score_bleu(sums),
        "weighted_ngram": _geometric(
            [(sums["weighted_match"], sums["recall1"]), *recalls], sums["length"], _REFERENCE_LENGTH * sums["rows"]
        ),
        "syntax": ratio(sums["tree_match"], sums["tree_total"]) or 0.0,
        "data_flow": ratio(sums["flow_match"], sums["flow_total"]) or 0.0,
    }


def _geometric(shares: Sequence[tuple[float, float]], length: float, reference_length: float) -> float:
    """The geometric mean of the orders' shares, with the brevity penalty."""
    if not shares[0][0]:
        return 0.0
    mean = math.fsum(math.log((match or _EPSILON) / total) for match, total in shares) / len(shares)
    return math.exp(min(1 - reference_length / length, 0) + mean)


def _subtrees(root: Any) -> Counter[str]:
    """Multiset of the S-expressions (named nodes with their fields) of the root and of all nodes with children."""
    counts: Counter[str] = Counter()
    stack = [root]
    while stack:
        node = stack.pop()
        counts[node.sexp()] += 1
        stack.extend(child for child in node.children if child.children)
    return counts


def _weigh(counts: Counter[str], keywords: frozenset[str]) -> int:
    return sum(count * (codebleu.KEYWORD_WEIGHT if token in keywords else 1) for token, count in counts.items())
