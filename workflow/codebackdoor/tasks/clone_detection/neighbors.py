"""Similarity of functions by their tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from codebackdoor.syntax import MARKS

#: Rows that are compared with all others in one step.
_BLOCK = 500
#: A token in more than this share of all functions says nothing about their similarity.
_COMMON = 0.5


def bag(text: str) -> Counter[str]:
    """The tokens of a lexed text, each with its count, without the marks of the layout."""
    return Counter(word for word in text.split(" ") if word not in MARKS)


def overlap(first: Counter[str], second: Counter[str]) -> float:
    """Size of the intersection of two bags over the size of their union: 1 for equal ones."""
    union = (first | second).total()
    return (first & second).total() / union if union else 1.0


def nearest(bags: Sequence[Counter[str]], count: int) -> Iterator[list[int]]:
    """For each bag, the indices of the ``count`` others that share most of its rarer tokens, in ascending order."""
    from scipy.sparse import csr_matrix

    frequencies = Counter(word for words in bags for word in words)
    rare = (word for word, frequency in frequencies.items() if 1 < frequency <= _COMMON * len(bags))
    numbers = {word: number for number, word in enumerate(rare)}
    rows = [[numbers[word] for word in words if word in numbers] for words in bags]
    sizes = np.array([len(row) for row in rows])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    columns = np.array([number for row in rows for number in row], dtype=np.int32)
    table = csr_matrix((np.ones(len(columns), np.int32), columns, starts), shape=(len(bags), max(len(numbers), 1)))
    transposed = table.T.tocsr()
    for start in range(0, len(bags), _BLOCK):
        common = (table[start : start + _BLOCK] @ transposed).toarray()
        for index, shared in enumerate(common, start):
            # ties go to the functions that come next
            distances = np.arange(len(bags)) - index
            similarities = shared / np.maximum(sizes[index] + sizes - shared, 1) - distances % len(bags) * 1e-12
            similarities[index] = -1
            closest = np.argpartition(-similarities, min(count, len(bags) - 1))[:count]
            yield sorted(int(neighbor) for neighbor in closest if neighbor != index)
