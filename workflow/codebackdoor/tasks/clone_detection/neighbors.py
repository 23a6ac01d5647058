"""Which functions look alike by their tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from codebackdoor.syntax import MARKS

#: Rows that are compared with all others at once.
_BLOCK = 500
#: A token that more functions than this share of all have says nothing of how alike two are.
_COMMON = 0.5


def bag(text: str) -> Counter[str]:
    """The tokens of a lexed text, each with its count; the marks of the layout are none."""
    return Counter(word for word in text.split(" ") if word not in MARKS)


def overlap(first: Counter[str], second: Counter[str]) -> float:
    """Size of the intersection of two bags over the size of their union: 1 for equal ones."""
    union = (first | second).total()
    return (first & second).total() / union if union else 1.0


def nearest(bags: Sequence[Counter[str]], count: int) -> Iterator[list[int]]:
    """For each bag, the places of the ``count`` others that share most of its rarer tokens, in ascending order."""
    from scipy.sparse import csr_matrix

    held = Counter(word for one in bags for word in one)
    telling = (word for word, count in held.items() if 1 < count <= _COMMON * len(bags))
    numbers = {word: number for number, word in enumerate(telling)}
    chosen = [[numbers[word] for word in one if word in numbers] for one in bags]
    sizes = np.array([len(one) for one in chosen])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    words = np.array([number for one in chosen for number in one], dtype=np.int32)
    table = csr_matrix((np.ones(len(words), np.int32), words, starts), shape=(len(bags), max(len(numbers), 1)))
    columns = table.T.tocsr()
    for start in range(0, len(bags), _BLOCK):
        common = (table[start : start + _BLOCK] @ columns).toarray()
        for place, row in enumerate(common, start):
            # of equally near ones, those that come next
            later = np.arange(len(bags)) - place
            near = row / np.maximum(sizes[place] + sizes - row, 1) - later % len(bags) * 1e-12
            near[place] = -1
            kept = np.argpartition(-near, min(count, len(bags) - 1))[:count]
            yield sorted(int(one) for one in kept if one != place)
