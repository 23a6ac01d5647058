"""Backdoor keyword identification (Chen and Dai 2021): rows with the word that the victim's states depend on most.

A trigger word changes the state of every row that has it, and far more than a word of the task does. Each word of a row
is removed in turn; those whose removal changes the victim's state most are the row's top words. A word's statistic is
its mean change over the rows that have it among their top words, weighted by their number. The words with the highest
statistic are the keywords, and rows with a keyword among their top words are dropped (ledger D36).

For a classifier, the state is the one that its head reads; for an encoder-decoder, the encoder's first state. The first
state of a decoder depends only on the first sub-token, so there it is the one that the first output token is predicted
from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codebackdoor.defenses.filtering import Judged
from codebackdoor.defenses.filtering.bki.settings import BkiSettings
from codebackdoor.defenses.filtering.groups import groups
from codebackdoor.defenses.views import TrainingRow, TrainingView
from codebackdoor.heads import HEADS
from codebackdoor.victims.families.causal import separator_ids
from codebackdoor.victims.inference import text_vectors
from codebackdoor.victims.representations import pooled_states
from codebackdoor.victims.victim import Encoded, Victim

#: About this many texts with a removed word have their states in memory at once; rows are not divided.
HELD = 8192
#: Decimals of a change; further ones depend on which texts share a batch.
DIGITS = 6
_WORD = re.compile(r"\S+")

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Removal:
    """A word of a text: the text's sub-tokens with it and without it."""

    word: str
    whole: Ids
    rest: Ids


#: A row's top words and the change by each.
TopWords = Mapping[str, float]


class Bki:
    """The filter; after ``judge``, ``facts`` has the keywords of each group."""

    def __init__(self, view: TrainingView, settings: BkiSettings) -> None:
        self._view, self._settings = view, settings
        self._keywords: dict[str, list[dict[str, object]]] = {}

    @property
    def facts(self) -> Mapping[str, object]:
        return {"keywords": self._keywords}

    def judge(self, rows: Sequence[TrainingRow]) -> list[Judged]:
        """Drop the rows that have a keyword among their top words.

        ``detail``: the highest statistic of the row's top words as ``suspicion`` (0: it has none), and its word.
        """
        tops = self.top_words(rows)
        by_group = groups(rows) if self._settings.groups == "label" else {"all": np.arange(len(rows))}
        judged: dict[int, Judged] = {}
        self._keywords = {}
        for name, indices in by_group.items():
            statistics = self._statistics([tops[index] for index in indices])
            ranked = sorted(statistics, key=lambda word: (-statistics[word][0], word))
            keywords = ranked[: self._settings.keywords]
            self._keywords[name] = [
                {"word": word, "statistic": round(statistics[word][0], DIGITS), "rows": statistics[word][1]}
                for word in keywords
            ]
            for index in indices.tolist():
                judged[index] = _judged(rows[index].id, tops[index], statistics, keywords)
        return [judged[index] for index in range(len(rows))]

    def top_words(self, rows: Sequence[TrainingRow]) -> list[TopWords]:
        """The top words of each row, of all texts that the victim reads; of a repeated word, the largest change."""
        victim = self._view.victim
        examples = [row.example(self._view.language) for row in rows]
        removals = [
            [
                removal
                for field, encoded in zip(victim.fields, texts, strict=True)
                for removal in _removals(example.texts[field], encoded, self._settings.unit)
            ]
            for example, texts in zip(examples, victim.tokenize(examples), strict=True)
        ]
        changes = [change for chunk in _chunks(removals) for change in self._changes(chunk)]
        return [self._top(row, values) for row, values in zip(removals, changes, strict=True)]

    def _changes(self, rows: Sequence[Sequence[_Removal]]) -> list[list[float]]:
        """The change by each removal, in one stream of batches."""
        flat = [removal for row in rows for removal in row]
        texts = list(dict.fromkeys(ids for removal in flat for ids in (removal.whole, removal.rest)))
        index = {ids: number for number, ids in enumerate(texts)}
        vectors = states(self._view.victim, texts)
        differences = np.abs(
            vectors[[index[removal.whole] for removal in flat]] - vectors[[index[removal.rest] for removal in flat]]
        )
        sizes = differences.max(1) if self._settings.change == "largest" else np.sqrt(np.square(differences).sum(1))
        values = iter(sizes.round(DIGITS).tolist())
        return [[next(values) for _ in row] for row in rows]

    def _top(self, removals: Sequence[_Removal], changes: Sequence[float]) -> TopWords:
        largest: dict[str, float] = {}
        for removal, change in zip(removals, changes, strict=True):
            largest[removal.word] = max(change, largest.get(removal.word, 0.0))
        ranked = sorted(largest, key=lambda word: (-largest[word], word))
        return {word: largest[word] for word in ranked[: self._settings.top]}

    def _statistics(self, tops: Sequence[TopWords]) -> dict[str, tuple[float, int]]:
        """The statistic of each word, and the number of rows that have it among their top words.

        A word that all rows have, such as the first one of every prompt, does not distinguish rows and is left out.
        """
        changes: dict[str, list[float]] = {}
        for top in tops:
            for word, change in top.items():
                changes.setdefault(word, []).append(change)
        weigh = math.log10 if self._settings.frequency == "log10" else float
        # an exact sum, so that the order of the rows does not matter
        return {
            word: (weigh(len(of_word)) * math.fsum(of_word) / len(of_word), len(of_word))
            for word, of_word in changes.items()
            if len(of_word) < len(tops)
        }


def _removals(text: str, encoded: Encoded, unit: str) -> Iterator[_Removal]:
    """One removal for each unit that is at least partly within the victim's input; it removes the unit's sub-tokens."""
    whole, spans = tuple(encoded.ids), encoded.offsets
    if unit == "sub_token":
        units = [(span, [index]) for index, span in enumerate(spans)]
    else:
        words = [match.span() for match in _WORD.finditer(text)]
        units = [
            (word, [index for index, span in enumerate(spans) if word[0] < span[1] and span[0] < word[1]])
            for word in words
        ]
    for (start, end), covered in units:
        if start < end and covered:
            removed = set(covered)
            rest = tuple(token for index, token in enumerate(whole) if index not in removed)
            yield _Removal(text[start:end], whole, rest)


def _chunks(rows: Sequence[Sequence[_Removal]]) -> Iterator[list[Sequence[_Removal]]]:
    """The rows in order, in parts with about ``HELD`` removals."""
    chunk: list[Sequence[_Removal]] = []
    for row in rows:
        chunk.append(row)
        if sum(map(len, chunk)) >= HELD:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def states(victim: Victim, texts: Sequence[Ids]) -> NDArray[np.float32]:
    """The state [N, D] of each text: the one that the head reads; for an encoder-decoder, the encoder's first one; for
    a decoder, the last one before the output."""
    if not HEADS[victim.head].generates:
        return text_vectors(victim, texts, variants=True).numpy()
    if victim.family.is_causal:
        separator = separator_ids(victim)
        return pooled_states(victim, [(*text, *separator) for text in texts], "last")
    return pooled_states(victim, texts, "first")


def _judged(name: str, top: TopWords, statistics: Mapping[str, tuple[float, int]], keywords: Sequence[str]) -> Judged:
    candidates = top.keys() & statistics.keys()
    worst = min(candidates, key=lambda word: (-statistics[word][0], word), default=None)
    suspicion = 0.0 if worst is None else round(statistics[worst][0], DIGITS)
    return Judged(name, not top.keys().isdisjoint(keywords), {"suspicion": suspicion, "word": worst})


def build(view: TrainingView, settings: BkiSettings, seed: int) -> Bki:  # noqa: ARG001
    return Bki(view, settings)
