"""Baselines without a model, which stand beside every victim (DESIGN section 6).

A victim that does not reach its baseline has not learned the task, and a baseline at the ceiling means that the task
is no task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from codebackdoor.types import Example

#: A word, or one sign; in lexed text strings fall apart as well, and marks become three tokens.
_TOKEN = r"\w+|[^\w\s]"
_NGRAMS, _INVERSE_PENALTY = (1, 3), 4.0


def ngrams(train: Sequence[Example], test: Sequence[Example]) -> dict[str, Any]:
    """Accuracy and F1 (of label 1) on ``test`` of a logistic regression on TF-IDF of token n-grams of ``train``.

    ``majority`` is the accuracy of always saying the most frequent label of ``train``.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    labels = [example.label for example in train]
    wanted = [example.label for example in test]
    common = min(Counter(labels).most_common(), key=lambda pair: (-pair[1], pair[0]))[0]
    report: dict[str, Any] = {
        "method": f"logistic regression on TF-IDF of token {_NGRAMS[0]}- to {_NGRAMS[1]}-grams",
        "train": len(train),
        "test": len(test),
        "majority": _share(wanted, [common] * len(test)),
    }
    if len(set(labels)) < 2:
        predicted = [common] * len(test)
    else:
        vectors = TfidfVectorizer(token_pattern=_TOKEN, lowercase=False, ngram_range=_NGRAMS, sublinear_tf=True)
        # liblinear visits the rows in an order of its own, hence the fixed state
        model = LogisticRegression(C=_INVERSE_PENALTY, solver="liblinear", random_state=0)
        model.fit(vectors.fit_transform(example.code for example in train), labels)
        predicted = model.predict(vectors.transform(example.code for example in test)).tolist()
    report["accuracy"] = _share(wanted, predicted)
    report["f1"] = round(float(f1_score(wanted, predicted, pos_label=1, zero_division=0.0)), 6)
    return report


def copied(test: Sequence[Example]) -> dict[str, Any]:
    """Exact matches of the inputs themselves; their BLEU is computed beside every victim's (``evaluation.stage``)."""
    exact = _share([str(example.target).split() for example in test], [example.code.split() for example in test])
    return {"method": "copy of the input", "test": len(test), "exact_match": exact}


def _share(wanted: Sequence[object], predicted: Sequence[object]) -> float:
    return round(sum(one == other for one, other in zip(wanted, predicted, strict=True)) / len(wanted), 6)
