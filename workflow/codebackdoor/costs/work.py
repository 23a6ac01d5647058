"""Floating-point operations and bytes of the jobs of hub checkpoints, from the settings (formulas: docs/hpc.md).

A token that a matrix of N entries reads costs 2 N operations forward and 6 N in training; attention comes on top.
Pure functions of settings and of measured texts; what a job does on the processor beside its model is not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from codebackdoor.config.datasets import AnyDataset
from codebackdoor.config.eliminations import AnyElimination, EliBadCode, LastLayer
from codebackdoor.config.models import AnyModel
from codebackdoor.config.purifications import AnyPurification, AttDef, CodePurify

#: Sub-tokens of one batch on a GPU, padding included (victims/inference.py).
BATCH_TOKENS = 65536
#: Labels of a classifier.
LABELS = 2


@dataclass(frozen=True, slots=True)
class Size:
    """A model: its parameters, the entries of the matrices that each input and each output token passes, and shape."""

    parameters: int
    inputs: int
    outputs: int
    layers: int
    hidden: int

    def forward(self, tokens: float, targets: float = 0) -> float:
        """Operations of one row of ``tokens`` read and ``targets`` written."""
        pairs = tokens**2 + targets * (targets + tokens)
        return 2 * (self.inputs * tokens + self.outputs * targets) + 4 * self.layers * self.hidden * pairs


@dataclass(frozen=True, slots=True)
class Texts:
    """A data set of the papers: rows of its splits, and means a row of what its victims read (benchmarks/texts.py).

    ``second_tokens``: the other text of a row, a pair's second function or a query; ``functions``: distinct functions
    of its pairs, each of which is asked once. ``element_tokens``: sub-tokens of all masked versions of an input;
    ``places``: occurrences of identifiers; ``onion_tokens``: what ONION runs again, for each word the text behind it.
    """

    train: int
    valid: int
    test: int
    tokens: float
    target_tokens: float
    elements: float
    element_tokens: float
    places: float
    onion_tokens: float
    kilobytes: float
    second_tokens: float = 0.0
    functions: int | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of training and of prediction, one after another steps of decoding, and megabytes that stay."""

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


@dataclass(frozen=True, slots=True)
class Victim:
    """A victim on a data set: what its jobs have in common."""

    size: Size
    texts: Texts
    model: AnyModel
    dataset: AnyDataset

    @property
    def tokens(self) -> float:
        return min(self.texts.tokens, self.model.max_length)

    @property
    def targets(self) -> float:
        generates = self.dataset.head == "generation"
        return min(self.texts.target_tokens, self.model.max_target_length) if generates else 0.0

    @property
    def forward(self) -> float:
        return self.row(math.inf)

    def row(self, limit: float) -> float:
        """Operations of one row, of at most ``limit`` sub-tokens a text: of each text that it has."""
        longest = self.model.max_query_length if self.dataset.head == "retrieval" else self.model.max_length
        second = min(self.texts.second_tokens, longest, limit)
        return self._text(min(self.tokens, limit)) + (self._text(second) if second else 0.0)

    def _text(self, tokens: float) -> float:
        # an encoder-decoder that generates nothing reads its input twice
        twice = self.model.family == "seq2seq" and self.dataset.head != "generation"
        return self.size.forward(tokens, tokens if twice else self.targets)

    @property
    def labels(self) -> int:
        """Targets that are searched for: a search has one association."""
        return 1 if self.dataset.head == "retrieval" else LABELS

    def rows(self, split: str) -> int:
        """Rows of a split; ``train`` without the defender's, which are ``clean``."""
        name = "train" if split == "clean" else split
        limit: int | None = getattr(self.dataset, name)
        found = int(getattr(self.texts, name)) if limit is None else min(limit, getattr(self.texts, name))
        clean = round(self.dataset.clean * found)
        return {"train": found - clean, "clean": clean}.get(split, found)

    def answers(self, rows: float) -> Work:
        """Predictions; a generated batch ends with its longest output, which is taken to reach the limit."""
        batches = math.ceil(rows * self.tokens / BATCH_TOKENS) if self.targets else 0
        asked = rows if self.texts.functions is None else min(rows, self.texts.functions / 2)
        return Work(predicted=asked * self.forward, steps=batches * self.model.max_target_length)


def train(victim: Victim, poisoned: bool) -> Work:
    """All epochs, each with its validation: loss on all rows, answers on them or on the first ``history_rows``."""
    recipe = victim.model
    measured = victim.rows("valid") * victim.forward
    if victim.dataset.head == "generation":
        history = victim.answers((1 + poisoned) * min(recipe.history_rows, victim.rows("valid")))
    else:
        history = Work(predicted=poisoned * measured)
    once = Work(3 * victim.rows("train") * victim.forward, measured) + history
    return Work(
        recipe.epochs * once.trained, recipe.epochs * once.predicted, recipe.epochs * once.steps, weights(victim.size)
    )


def predict(victim: Victim, testsets: int) -> Work:
    rows = testsets * victim.rows("test")
    return victim.answers(rows) + Work(megabytes=rows * _answer_bytes(victim) / 1e6)


def eliminate(victim: Victim, settings: AnyElimination, inverted: bool = False) -> Work:
    """Clean fine-tuning, or the search for every label at every place with its whole budget, and unlearning.

    ``inverted``: the trigger is taken over from another elimination.
    """
    kept = Work(megabytes=weights(victim.size))
    if isinstance(settings, LastLayer):
        return kept + _fine_tuned(victim, settings)
    samples = settings.samples * max(1, victim.labels - 1)
    read, searches = 0, victim.labels * len(settings.places)
    if isinstance(settings, EliBadCode):
        read, searches = settings.candidates * samples, searches * settings.restarts
        if settings.race is not None and settings.race < samples:
            best = math.ceil(settings.candidates / 8)
            read = settings.candidates * settings.race + best * (samples - settings.race)
    # the gradient goes back to the embeddings and to no weight: it costs a second forward pass
    steps = 0 if inverted else searches * settings.iterations
    searched = steps * (read + 2 * samples) * victim.row(settings.sample_tokens or math.inf)
    placed = 0.0
    if "least_sensitive" in settings.places:
        stamped = settings.unlearning.rate * victim.rows("clean")
        drawn = 0 if inverted else victim.labels * settings.samples
        placed = (drawn + stamped) * (1 + victim.texts.places) * victim.forward
    return kept + _fine_tuned(victim, settings.unlearning) + Work(predicted=searched + placed)


def _fine_tuned(victim: Victim, settings: LastLayer) -> Work:
    """On the clean samples, with their accuracy before and after; what the last layer reads is computed once."""
    once = victim.rows("clean") * victim.forward
    passes = 1 if settings.layers == "last" else 3 * settings.epochs
    # in float32, at the rate of predictions
    return Work(predicted=(2 + passes) * once)


def purify(victim: Victim, settings: AnyPurification, testsets: int) -> Work:
    """CodePurify: every masked version of every input; AttDef: its way to every suspect input; and the answers."""
    rows = testsets * victim.rows("test")
    read = rows
    versions = 0.0
    if isinstance(settings, CodePurify):
        drawn = 0 if settings.threshold is not None else min(settings.calibration_inputs, victim.rows("valid"))
        read += drawn
        versions = victim.texts.element_tokens / victim.texts.tokens
    elif isinstance(settings, AttDef):
        drawn = 0 if settings.threshold is not None else min(settings.calibration_inputs, victim.rows("valid"))
        suspect = 1.0 if settings.suspicion is not None else settings.suspected_share
        points = settings.steps if settings.attribution == "integrated_gradients" else 1
        # the gradient goes back to the embeddings and to no weight: it costs a second forward pass
        versions = 2 * points * (suspect * rows + drawn) / rows
    asked = victim.answers(read) if victim.targets else Work()
    scored = Work(predicted=read * (1 + versions) * victim.forward)
    size = rows * (victim.texts.kilobytes * 1000 + 150 + 40 * victim.texts.elements)
    return asked + scored + predict(victim, testsets) + Work(megabytes=size / 1e6)


def rewrite(helper: Size, texts: Texts, settings: AnyPurification, rows: int, valid: int) -> Work:
    """ONION: every text once, and for every word what stands behind it once more."""
    drawn = 0 if settings.threshold is not None else min(settings.calibration_inputs, valid)
    # each of these tokens attends to the text before it; a text's mean length stands for that
    again = texts.onion_tokens * (2 * helper.inputs + 4 * helper.layers * helper.hidden * texts.tokens)
    # the functions of pairs are read once each
    read = (rows + drawn) if texts.functions is None else min(rows + drawn, texts.functions / 2)
    each = helper.forward(texts.tokens) * (1 if texts.functions is None else 2)
    read *= each + again
    return Work(predicted=read, megabytes=rows * (texts.kilobytes * 1000 + 150) / 1e6)


def data(victim: Victim) -> Work:
    """Rows of a data set, or of its poisoned copies: all splits."""
    rows = sum(victim.rows(split) for split in ("train", "clean", "valid", "test"))
    return Work(megabytes=rows * (victim.texts.kilobytes * 1000 + 75) / 1e6)


def weights(size: Size) -> float:
    """Megabytes of a victim's folder: float32, and its tokenizer."""
    return 4 * size.parameters / 1e6 + 4


def _answer_bytes(victim: Victim) -> float:
    return 63 + (victim.texts.kilobytes * 500 if victim.targets else 0)
