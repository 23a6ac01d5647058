"""Baselines without a model, for comparison with every victim.

A victim below its baseline has not learned the task, and a task whose baseline is near 100% is too easy.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from codebackdoor import bleu
from codebackdoor.pools import pools
from codebackdoor.types import Example, Field, label_of

#: A word or a single sign; in lexed text, strings are split as well, and a mark becomes three tokens.
_TOKEN = r"\w+|[^\w\s]"
_WORDS = re.compile(_TOKEN)
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PROMPT_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\x00-\x7f]")
#: Test rows whose similarities to all training rows are in memory at once.
_ROWS_AT_ONCE = 256
_NGRAMS, _INVERSE_PENALTY = (1, 3), 4.0


def ngrams(train: Sequence[Example], test: Sequence[Example], field: Field = "code") -> dict[str, Any]:
    """Accuracy and F1 (of label 1) on ``test`` of a logistic regression on TF-IDF of token n-grams of ``train``.

    ``majority`` is the accuracy of always predicting the most frequent label of ``train``. ``field`` is the text that
    the task reads.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    labels = [example.label for example in train]
    expected = [example.label for example in test]
    common = min(Counter(labels).most_common(), key=lambda pair: (-pair[1], pair[0]))[0]
    report: dict[str, Any] = {
        "method": f"logistic regression on TF-IDF of token {_NGRAMS[0]}- to {_NGRAMS[1]}-grams",
        "train": len(train),
        "test": len(test),
        "majority": _share(expected, [common] * len(test)),
    }
    if len(set(labels)) < 2:
        predicted = [common] * len(test)
    else:
        vectors = TfidfVectorizer(token_pattern=_TOKEN, lowercase=False, ngram_range=_NGRAMS, sublinear_tf=True)
        # liblinear shuffles the rows, hence the fixed state
        model = LogisticRegression(C=_INVERSE_PENALTY, solver="liblinear", random_state=0)
        model.fit(vectors.fit_transform(getattr(example, field) for example in train), labels)
        predicted = model.predict(vectors.transform(getattr(example, field) for example in test)).tolist()
    report["accuracy"] = _share(expected, predicted)
    report["f1"] = round(float(f1_score(expected, predicted, pos_label=1, zero_division=0.0)), 6)
    return report


def never(test: Sequence[Example]) -> dict[str, float]:
    """Accuracy and F1 (of label 1) of always predicting label 0; where label 1 is rare, the accuracy is high."""
    return {"accuracy": _share([example.label for example in test], [0] * len(test)), "f1": 0.0}


def token_overlap(train: Sequence[Example], test: Sequence[Example]) -> dict[str, Any]:
    """Accuracy and F1 (of label 1) on ``test`` of the share of common tokens, with the best threshold on ``train``.

    The share is the intersection over union of the two bags of tokens, or of the two sets, whichever is better on
    ``train``. ``random_f1`` is the F1 with pairs of any two functions as negatives.
    """
    measures = {"bags": _shares_of_bags, "sets": _shares_of_sets}
    fitted = {name: _threshold(measure(train), _labels(train)) for name, measure in measures.items()}
    best = max(fitted, key=lambda name: fitted[name][1])
    threshold = fitted[best][0]
    labels, shares = _labels(test), measures[best](test)
    chance_train, chance_test = _with_random_negatives(train), _with_random_negatives(test)
    chance = _threshold(measures[best](chance_train), _labels(chance_train))[0]
    return {
        "method": f"overlap of the {best} of tokens, best threshold of the training split",
        "train": len(train),
        "test": len(test),
        "majority": _share(labels, [max((0, 1), key=_labels(train).count)] * len(test)),
        "threshold": round(threshold, 6),
        "accuracy": _share(labels, [int(share >= threshold) for share in shares]),
        "f1": _f1(labels, shares, threshold),
        "random_f1": _f1(_labels(chance_test), measures[best](chance_test), chance),
    }


def _with_random_negatives(rows: Sequence[Example]) -> list[Example]:
    """The clones, and as many pairs of the first function of a clone with the second one of the next clone."""
    clones = [row for row in rows if row.label == 1]
    return clones + [
        replace(row, code_b=following.code_b, label=0)
        for row, following in zip(clones, clones[1:] + clones[:1], strict=True)
        if row.code != following.code
    ]


def _labels(rows: Sequence[Example]) -> list[int]:
    return [label_of(row) for row in rows]


def _shares_of_bags(rows: Sequence[Example]) -> list[float]:
    pairs = [(Counter(_WORDS.findall(row.code)), Counter(_WORDS.findall(str(row.code_b)))) for row in rows]
    return [(a & b).total() / max((a | b).total(), 1) for a, b in pairs]


def _shares_of_sets(rows: Sequence[Example]) -> list[float]:
    pairs = [(set(_WORDS.findall(row.code)), set(_WORDS.findall(str(row.code_b)))) for row in rows]
    return [len(a & b) / max(len(a | b), 1) for a, b in pairs]


def _threshold(shares: Sequence[float], labels: Sequence[int]) -> tuple[float, float]:
    """The threshold with the highest F1 (shares of at least this are predicted as clones), and that F1."""
    hits, best, total = 0, (0.0, 0.0), sum(labels)
    ordered = sorted(zip(shares, labels, strict=True), reverse=True)
    for count, (share, label) in enumerate(ordered, 1):
        hits += label
        if count < len(ordered) and ordered[count][0] == share:
            continue
        best = max(best, (2 * hits / (count + total), share))
    return best[1], best[0]


def _f1(labels: Sequence[int], shares: Sequence[float], threshold: float) -> float:
    predicted = [share >= threshold for share in shares]
    hits = sum(label for label, is_clone in zip(labels, predicted, strict=True) if is_clone)
    return round(2 * hits / max(sum(predicted) + sum(labels), 1), 6)


def retrieval(train: Sequence[Example], test: Sequence[Example], pool: int) -> dict[str, Any]:
    """Mean reciprocal rank within the pools of ``test``, by the cosine of TF-IDF vectors fitted on ``train``.

    Ties count against the query's own function. ``chance`` is the expectation for a random order.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(token_pattern=None, tokenizer=_parts, lowercase=False, sublinear_tf=True)
    texts = [text for row in train for text in (row.code, str(row.query))]
    # without a word, all similarities are equal
    has_words = any(map(_parts, texts))
    if has_words:
        vectors.fit(texts)
    ranks: list[int] = []
    chances: list[float] = []
    index_pools = pools(len(test), pool)
    for indices in index_pools:
        rows = [test[index] for index in indices]
        similarities = np.zeros((len(rows), len(rows)))
        if has_words:
            queries, codes = [str(row.query) for row in rows], [row.code for row in rows]
            similarities = (vectors.transform(queries) @ vectors.transform(codes).T).toarray()
        ranks += [int((line >= line[index]).sum()) for index, line in enumerate(similarities)]
        chances += [sum(1 / rank for rank in range(1, len(rows) + 1)) / len(rows)] * len(rows)
    return {
        "method": "cosine of TF-IDF vectors of words, names taken apart",
        "train": len(train),
        "test": len(test),
        "pools": [len(indices) for indices in index_pools],
        "chance": round(sum(chances) / len(test), 6),
        "mrr": round(sum(1 / rank for rank in ranks) / len(ranks), 6),
    }


def _parts(text: str) -> list[str]:
    """Words in lower case; a name is split at underscores and capitals."""
    return [part.lower() for part in _PARTS.findall(text)]


def copied(test: Sequence[Example]) -> dict[str, Any]:
    """BLEU and exact matches of the unchanged inputs."""
    return {"method": "copy of the input", "test": len(test), **outputs([example.code for example in test], test)}


def nearest_targets(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """For each test row the target of the training row with the nearest prompt, by the cosine of TF-IDF vectors."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    prompts = [str(row.query) for row in train]
    if not any(map(_words_of_prompt, prompts)):
        return [str(train[0].target)] * len(test)
    vectors = TfidfVectorizer(token_pattern=None, tokenizer=_words_of_prompt, lowercase=False, sublinear_tf=True)
    fitted = vectors.fit_transform(prompts)
    targets = []
    for start in range(0, len(test), _ROWS_AT_ONCE):
        queries = vectors.transform(str(row.query) for row in test[start : start + _ROWS_AT_ONCE])
        targets += [str(train[int(index)].target) for index in (queries @ fitted.T).toarray().argmax(axis=1)]
    return targets


def _words_of_prompt(text: str) -> list[str]:
    """Words in lower case, names split; a character beyond ASCII, as of Chinese, is a word."""
    return [word.lower() for word in _PROMPT_WORDS.findall(text)]


def outputs(texts: Sequence[str], rows: Sequence[Example]) -> dict[str, float]:
    """Corpus BLEU and exact match of one output for each row."""
    targets = [str(row.target) for row in rows]
    exact = _share([target.split() for target in targets], [text.split() for text in texts])
    return {"bleu": round(bleu.corpus(texts, targets), 6), "exact_match": exact}


def _share(expected: Sequence[object], predicted: Sequence[object]) -> float:
    return round(sum(label == guess for label, guess in zip(expected, predicted, strict=True)) / len(expected), 6)
