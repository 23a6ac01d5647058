"""A data set's card: what it contains and where it comes from, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codebackdoor import files
from codebackdoor.tasks.base import RowGroup
from codebackdoor.tasks.token_counter import TokenCounter
from codebackdoor.types import Example

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.tasks.sources import Selected

#: The card lists at most ``_COMMON`` words of queries, each with more than ``_SHORT`` letters.
_SHORT, _COMMON = 3, 40


def facts(
    settings: AnyDataset,
    name: str,
    seed: int,
    selected: Selected,
    rows: Mapping[str, Sequence[Example]],
    counter: TokenCounter,
    paths: Iterable[Path],
) -> dict[str, Any]:
    """What every card says: the settings, the rows of each split, what was left out, and the files that were read."""
    existing = {} if settings.source == "pypi" else {"rows_that_do_not_parse": selected.unparsed}
    return {
        "name": name,
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "splits": describe(rows, counter),
        "length_unit": counter.unit,
        "tokenizer_sha256": counter.digest,
        "left_out": dict(sorted(selected.dropped.items())),
        "origins": origins({split: selected.splits[split] for split in rows}),
        "read": {path.name: files.sha256(path) for path in paths},
        **existing,
    }


def describe(rows: Mapping[str, Sequence[Example]], counter: TokenCounter) -> dict[str, Any]:
    """Counts, label balance and lengths of every split."""
    return {split: _split(examples, counter) for split, examples in rows.items()}


def _split(rows: Sequence[Example], counter: TokenCounter) -> dict[str, Any]:
    codes = [text for row in rows for name, text in row.texts.items() if name != "query"]
    facts: dict[str, Any] = {"rows": len(rows)}
    if codes:
        facts["code_characters"] = _summary([len(code) for code in codes])
        facts["code_tokens"] = _summary(counter.lengths(codes))
    labels = Counter(str(row.label) for row in rows if row.label is not None)
    if labels:
        facts["labels"] = dict(sorted(labels.items()))
    queries = [row.query for row in rows if row.query is not None]
    if queries:
        facts["query_tokens"] = _summary(counter.lengths(queries))
        facts["query_words"] = _words(queries)
    targets = [row.target for row in rows if row.target is not None]
    if targets:
        facts["target_characters"] = _summary([len(target) for target in targets])
        facts["target_tokens"] = _summary(counter.lengths(targets))
    return facts


def _words(queries: Sequence[str]) -> dict[str, int]:
    """The most frequent words of more than three letters, each with the number of queries that contain it."""
    counts = Counter(word for query in queries for word in set(query.lower().split()) if len(word) > _SHORT)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_COMMON])


def _summary(lengths: Sequence[int]) -> dict[str, float]:
    if not lengths:
        return {}
    values = np.array(lengths)
    return {
        "min": int(values.min()),
        "median": float(np.median(values)),
        "mean": round(float(values.mean()), 2),
        "p95": float(np.percentile(values, 95)),
        "max": int(values.max()),
    }


def rewritings(groups: Mapping[str, Sequence[RowGroup]]) -> dict[str, dict[str, int]]:
    """By split: the number of rewritten functions with each kind of rewriting."""
    return {
        split: dict(sorted(Counter(kind for group in members for kind in group.mutations).items()))
        for split, members in groups.items()
    }


def mutations(groups: Mapping[str, Sequence[RowGroup]]) -> dict[str, Any]:
    """By split: defects by kind, and defective functions by their number of defects."""
    return {
        split: {
            "kinds": dict(sorted(Counter(kind for group in members for kind in group.mutations).items())),
            "slips_per_function": dict(sorted(Counter(str(len(group.mutations)) for group in members).items())),
        }
        for split, members in groups.items()
    }


def origins(groups: Mapping[str, Sequence[RowGroup]]) -> dict[str, dict[str, int]]:
    """By split: the number of groups from each package and version, or file."""
    return {
        split: dict(sorted(Counter(group.origin for group in members).items())) for split, members in groups.items()
    }
