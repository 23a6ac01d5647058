"""Floating-point operations and bytes of jobs with hub checkpoints: the units, and parts that jobs on a victim share.

A token that passes a matrix of N entries costs 2 N operations forward and 6 N in training, plus attention (formulas:
docs/dev/speed.md). CPU work outside the model is not counted. Settings of methods import this module, so it imports
nothing heavy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from codebackdoor.batch_sizes import GPU_TOKENS
from codebackdoor.costs.sizes import Rows
from codebackdoor.heads import HEADS
from codebackdoor.types import CodeField

if TYPE_CHECKING:
    from codebackdoor.attacks.settings import AttackSettings
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.models import AnyModel


@dataclass(frozen=True, slots=True)
class LayerSize:
    """All layers with one name: the sum of their inputs and outputs, and the entries of their matrices."""

    sides: int
    entries: int


@dataclass(frozen=True, slots=True)
class ModelSize:
    """A model: its parameters, the matrix entries that each input and each output token passes, and its shape.

    For the memory of a training: the parameters of BAdam's largest block, those of a new head, and the layers that
    adapters can change, by the last part of their names.
    """

    parameters: int
    inputs: int
    outputs: int
    layers: int
    hidden: int
    block: int = 0
    new: int = 0
    by_name: Mapping[str, LayerSize] = field(default_factory=dict)

    def forward(self, tokens: float, targets: float = 0) -> float:
        """Operations of one row with ``tokens`` of input and ``targets`` of output."""
        pairs = tokens**2 + targets * (targets + tokens)
        return 2 * (self.inputs * tokens + self.outputs * targets) + 4 * self.layers * self.hidden * pairs


@dataclass(frozen=True, slots=True)
class Texts:
    """A data set of the papers: its rows, and means per row of the texts that its victims read (benchmarks/texts.py).

    ``second_tokens``: sub-tokens of a row's second text, a pair's second function or a query. ``element_tokens``:
    sub-tokens of all masked versions of an input; ``places``: occurrences of identifiers; ``lines``: lines of one
    function, by syntax; ``onion_tokens``: sub-tokens that ONION recomputes, for each word the text after it.
    """

    rows: Rows
    tokens: float
    target_tokens: float
    elements: float
    element_tokens: float
    places: float
    lines: float
    onion_tokens: float
    kilobytes: float
    second_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class RowSet:
    """Rows that a model reads.

    ``functions``: number of distinct functions in pairs, each of which is read once; None if no function repeats.
    ``triggered``: whether the rows carry a trigger.
    """

    rows: float
    functions: float | None = None
    triggered: bool = False

    @property
    def distinct(self) -> float:
        """The equivalent number of rows if no function were in two rows."""
        return self.rows if self.functions is None else min(self.rows, self.functions / 2)


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of training and of prediction, sequential decoding steps, and megabytes on disk."""

    trained: float = 0.0
    predicted: float = 0.0
    steps: float = 0.0
    megabytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.trained + other.trained,
            self.predicted + other.predicted,
            self.steps + other.steps,
            self.megabytes + other.megabytes,
        )


class NotPriced(Exception):  # noqa: N818
    """The work of a method, model or task is not known."""


def priced(work: Work | None) -> Work:
    """The work that the settings of a method state; NotPriced if they state none."""
    if work is None:
        raise NotPriced
    return work


@dataclass(frozen=True, slots=True)
class PlannedVictim:
    """A victim on a data set, with the quantities that its jobs have in common."""

    size: ModelSize
    texts: Texts
    model: AnyModel
    dataset: AnyDataset

    @property
    def tokens(self) -> float:
        return min(self.texts.tokens, self.model.max_length)

    @property
    def targets(self) -> float:
        generates = HEADS[self.dataset.head].generates
        return min(self.texts.target_tokens, self.model.max_target_length) if generates else 0.0

    @property
    def forward(self) -> float:
        return self.row(math.inf)

    def row(self, limit: float) -> float:
        """Operations of all texts of one row, each with at most ``limit`` sub-tokens."""
        longest = self.model.max_query_length if HEADS[self.dataset.head].ranks else self.model.max_length
        second = min(self.texts.second_tokens, longest, limit)
        return self._text(min(self.tokens, limit)) + (self._text(second) if second else 0.0)

    def _text(self, tokens: float) -> float:
        twice = self.model.reads_twice and not HEADS[self.dataset.head].generates
        return self.size.forward(tokens, tokens if twice else self.targets)

    @property
    def functions_per_row(self) -> int:
        """Functions per row: two for a pair; a query counts only if the victim reads nothing else."""
        return max(1, sum(name in get_args(CodeField) for name in self.dataset.reads))

    @property
    def labels(self) -> int:
        """Number of target labels to search; code search has a single association instead."""
        return max(1, len(self.dataset.labels))

    def rows(self, split: str) -> int:
        """Number of rows of a split; ``train`` excludes the defender's samples, which are ``clean``."""
        name = "train" if split == "clean" else split
        limit: int | None = getattr(self.dataset, name)
        available = int(getattr(self.texts.rows, name))
        rows = available if limit is None else min(limit, available)
        clean = round(self.dataset.clean * rows)
        return {"train": rows - clean, "clean": clean}.get(split, rows)

    def clean(self, split: str) -> RowSet:
        return RowSet(self.rows(split), self.texts.rows.functions)

    def triggered(self, split: str, attack: AttackSettings) -> RowSet:
        """The triggered rows of a split: ``test_share`` of all rows, but at most those without the target label.

        All of them are assumed to accept the trigger.
        """
        predicts_label = HEADS[self.dataset.head].predicts_label
        eligible = self.texts.rows.without(attack.target_label) if predicts_label else 1.0
        rows = min(attack.test_share, eligible) * self.rows(split)
        functions = self.texts.rows.functions
        return RowSet(rows, None if functions is None else attack.versions * functions, triggered=True)

    def predictions(self, row_set: RowSet) -> Work:
        """The work of predictions; each generated batch is assumed to contain an output of maximum length."""
        batches = math.ceil(row_set.rows * self.tokens / GPU_TOKENS) if self.targets else 0
        # a triggered function is ranked for queries whose vectors were computed for the clean set
        known_queries = HEADS[self.dataset.head].ranks and row_set.triggered
        once = self._text(self.tokens) if known_queries else self.forward
        return Work(predicted=row_set.distinct * once, steps=batches * self.model.max_target_length)


@dataclass(frozen=True, slots=True)
class PoisoningJob:
    """``injected``: rows that get the trigger; ``crafting``: the model that the attack runs, if it is priced."""

    victim: PlannedVictim
    injected: float
    crafting: PlannedVictim | None = None


@dataclass(frozen=True, slots=True)
class FilteringJob:
    """``rows``: training rows that the method reads, repeated functions counted once."""

    victim: PlannedVictim
    rows: float
    language_model: ModelSize

    def calibrated(self, threshold: float | None, inputs: int) -> int:
        """Clean samples on which a threshold is calibrated; none if it is fixed."""
        return 0 if threshold is not None else min(inputs, self.victim.rows("clean"))


@dataclass(frozen=True, slots=True)
class PurificationJob:
    """``row_sets``: the test sets that the method rewrites."""

    victim: PlannedVictim
    row_sets: Sequence[RowSet]
    language_model: ModelSize

    @property
    def rows(self) -> float:
        return sum(row_set.rows for row_set in self.row_sets)

    @property
    def distinct(self) -> float:
        """Rows with repeated functions counted once."""
        return sum(row_set.distinct for row_set in self.row_sets)

    def calibrated(self, threshold: float | None, inputs: int) -> int:
        """Clean validation rows on which a threshold is calibrated; none if it is fixed."""
        return 0 if threshold is not None else min(inputs, self.victim.rows("valid"))


@dataclass(frozen=True, slots=True)
class EliminationJob:
    """``inverted``: whether the trigger is reused from another elimination."""

    victim: PlannedVictim
    inverted: bool = False


def weights(size: ModelSize, bytes_each: int = 4) -> float:
    """Megabytes of a victim's folder: its weights, by default in float32, and its tokenizer."""
    return bytes_each * size.parameters / 1e6 + 4
