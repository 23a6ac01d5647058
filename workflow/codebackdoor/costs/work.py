"""Floating-point operations and bytes of the jobs of hub checkpoints, from the settings (formulas: docs/hpc.md).

A token that a matrix of N entries reads costs 2 N operations forward and 6 N in training; attention comes on top.
Pure functions of settings and of measured texts; what a job does on the processor beside its model is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from codebackdoor.config.attacks import Afraidoor, AnyAttack, BadCode
from codebackdoor.config.datasets import AnyDataset
from codebackdoor.config.eliminations import AnyElimination
from codebackdoor.config.filterings import AnyFiltering
from codebackdoor.config.models import AnyModel
from codebackdoor.config.purifications import AnyPurification, AttDef, CodePurify, Onion, Similarity
from codebackdoor.costs.sizes import Rows
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.inversion.settings import UnlearningSettings
from codebackdoor.defenses.elimination.settings import TuningSettings

#: Sub-tokens of one batch on a GPU, padding included (victims/inference.py).
BATCH_TOKENS = 65536
#: Labels of a classifier.
LABELS = 2
#: Share of clean functions that the shipped discriminator suspects at Li et al.'s 0.5: of the default study's
#: validation rows 10 %, of its test rows 17 %.
SUSPECTED = 0.2


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
    """A data set of the papers: its rows, and means a row of what its victims read (benchmarks/texts.py).

    ``second_tokens``: the other text of a row, a pair's second function or a query. ``element_tokens``: sub-tokens of
    all masked versions of an input; ``places``: occurrences of identifiers; ``onion_tokens``: what ONION runs again,
    for each word the text behind it.
    """

    rows: Rows
    tokens: float
    target_tokens: float
    elements: float
    element_tokens: float
    places: float
    onion_tokens: float
    kilobytes: float
    second_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A set of rows that models read.

    ``functions``: how many distinct ones its pairs have, each of which is read once; None where every row has its own.
    ``triggered``: whether it is an attack's.
    """

    rows: float
    functions: float | None = None
    triggered: bool = False

    @property
    def distinct(self) -> float:
        """As many rows would have as many functions if none was in two."""
        return self.rows if self.functions is None else min(self.rows, self.functions / 2)


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
        there = int(getattr(self.texts.rows, name))
        found = there if limit is None else min(limit, there)
        clean = round(self.dataset.clean * found)
        return {"train": found - clean, "clean": clean}.get(split, found)

    def clean(self, split: str) -> Asked:
        return Asked(self.rows(split), self.texts.rows.functions)

    def triggered(self, split: str, attack: AnyAttack) -> Asked:
        """An attack's rows of a split: of those without its target, which a search has not, as many as it asks for.

        All are taken to take the trigger.
        """
        labelled = self.dataset.head in ("classification", "pair")
        eligible = self.texts.rows.without(attack.target_label) if labelled else 1.0
        rows = min(attack.test_share, eligible) * self.rows(split)
        functions = self.texts.rows.functions
        return Asked(rows, None if functions is None else variants(attack) * functions, triggered=True)

    def answers(self, asked: Asked) -> Work:
        """Predictions; a generated batch ends with its longest output, which is taken to reach the limit."""
        batches = math.ceil(asked.rows * self.tokens / BATCH_TOKENS) if self.targets else 0
        # with a trigger a function is ranked for queries that were read already
        searched = self.dataset.head == "retrieval" and asked.triggered
        once = self._text(self.tokens) if searched else self.forward
        return Work(predicted=asked.distinct * once, steps=batches * self.model.max_target_length)


def variants(attack: AnyAttack) -> float:
    """How many texts an attack makes of one function of many pairs."""
    if isinstance(attack, Afraidoor):
        return math.inf
    return 2 if isinstance(attack, BadCode) and attack.scope == "mixed" else 1


def train(victim: Victim, attack: AnyAttack | None) -> Work:
    """All epochs, each with its validation: loss on all rows, answers on them or on the first ``history_rows``."""
    recipe, clean = victim.model, victim.clean("valid")
    triggered = Asked(0) if attack is None else victim.triggered("valid", attack)
    if victim.dataset.head == "generation":
        outputs = sum(min(recipe.history_rows, one.rows) for one in (clean, triggered))
        measured = Work(predicted=clean.rows * victim.forward) + victim.answers(Asked(outputs))
    else:
        measured = victim.answers(clean) + victim.answers(triggered)
    once = Work(3 * victim.rows("train") * victim.forward) + measured
    return Work(
        recipe.epochs * once.trained, recipe.epochs * once.predicted, recipe.epochs * once.steps, weights(victim.size)
    )


def predict(victim: Victim, testsets: Sequence[Asked]) -> Work:
    answered = sum((victim.answers(one) for one in testsets), Work())
    return answered + Work(megabytes=_rows(testsets) * _answer_bytes(victim) / 1e6)


def _rows(testsets: Sequence[Asked]) -> float:
    return sum(one.rows for one in testsets)


def eliminate(victim: Victim, settings: AnyElimination, inverted: bool = False) -> Work:
    """Clean fine-tuning, or the search for every label at every place with its whole budget, and unlearning.

    Every candidate counts as read on all samples; a search leaves those out that cannot win any more, and needs less.
    ``inverted``: the trigger is taken over from another elimination.
    """
    kept = Work(megabytes=weights(victim.size))
    if isinstance(settings, TuningSettings):
        return kept + _fine_tuned(victim, settings.on(victim.dataset.head))
    unlearning = settings.unlearning.on(victim.dataset.head)
    samples = settings.samples * max(1, victim.labels - 1)
    read, searches = 0, victim.labels * len(settings.positions)
    if isinstance(settings, EliBadCodeSettings):
        read, searches = settings.candidates * samples, searches * settings.restarts
        if settings.race is not None and settings.race < samples:
            best = math.ceil(settings.candidates / 8)
            read = settings.candidates * settings.race + best * (samples - settings.race)
    # the gradient goes back to the embeddings and to no weight: it costs a second forward pass
    steps = 0 if inverted else searches * settings.iterations
    if isinstance(settings, EliBadCodeSettings) and settings.rounds > 1:
        # the scan after an unlearning; seldom more than one is unlearned
        steps += searches * settings.iterations
    searched = steps * (read + 2 * samples) * victim.row(settings.sample_tokens or math.inf)
    placed = 0.0
    # the function's name and a place at random are found without the victim, all others by their sensitivity
    if not {"function_name", "random"}.issuperset(settings.positions):
        stamped = unlearning.rate * victim.rows("clean") if _learns(unlearning) else 0
        drawn = 0 if inverted else victim.labels * settings.samples
        placed = (drawn + stamped) * (1 + victim.texts.places) * victim.forward
    return kept + _fine_tuned(victim, unlearning) + Work(predicted=searched + placed)


def invert(victim: Victim, settings: AnyElimination) -> Work:
    """The search of a method that inverts triggers, for every label at every place with its whole budget."""
    alone = settings.model_copy(update={"unlearning": UnlearningSettings(epochs=0)})
    return Work(predicted=eliminate(victim, alone).predicted)


def _learns(settings: TuningSettings) -> bool:
    return settings.epochs > 0 and settings.learning_rate > 0


def _fine_tuned(victim: Victim, settings: TuningSettings) -> Work:
    """On the clean samples, with their accuracy before and after; what the last layer reads, once where it stays."""
    if not _learns(settings):
        return Work()
    once = victim.rows("clean") * victim.forward
    if settings.layers == "all":
        passes = 3 * settings.epochs
    else:
        passes = settings.epochs if settings.dropout or victim.dataset.head == "retrieval" else 1
    # in float32, at the rate of predictions
    return Work(predicted=(2 + passes) * once)


def purify(victim: Victim, settings: AnyPurification, testsets: Sequence[Asked], language_model: Size) -> Work:
    """What a method reads of every input, and the answers to what came out."""
    size = _rows(testsets) * (victim.texts.kilobytes * 1000 + 150 + 40 * victim.texts.elements)
    methods = (settings, settings.also) if isinstance(settings, Similarity) else (settings,)
    read = Work()
    for one in methods:
        # what resembles a trigger is seen in the embeddings, without a model
        if isinstance(one, CodePurify):
            read += _masked(victim, one, testsets)
        elif isinstance(one, AttDef):
            read += _attributed(victim, one, testsets)
        elif isinstance(one, Onion):
            read += _surprises(language_model, victim, one, testsets)
    return read + predict(victim, testsets) + Work(megabytes=size / 1e6)


def _drawn(victim: Victim, settings: CodePurify | Onion | AttDef) -> int:
    """Clean rows on which a threshold is calibrated."""
    return 0 if settings.threshold is not None else min(settings.calibration_inputs, victim.rows("valid"))


def _masked(victim: Victim, settings: CodePurify, testsets: Sequence[Asked]) -> Work:
    """Every input, and every masked version of it."""
    read = _rows(testsets) + _drawn(victim, settings)
    versions = victim.texts.element_tokens / victim.texts.tokens
    asked = victim.answers(Asked(read)) if victim.targets else Work()
    return asked + Work(predicted=read * (1 + versions) * victim.forward)


def _attributed(victim: Victim, settings: AttDef, testsets: Sequence[Asked]) -> Work:
    """The way to every suspect input, and its answer: of the clean ones the share of which a function is suspect, of
    those with a trigger all. Its discriminator, a small one, is not counted, nor what the calibration masks."""
    functions = 2 if victim.dataset.head == "pair" else 1
    suspected = SUSPECTED if settings.suspected_share is None else settings.suspected_share
    share = 1 - (1 - suspected) ** functions
    suspect = sum(one.rows * (float(share > 0) if one.triggered else share) for one in testsets)
    # where sub-tokens are masked by their share, as if all functions were suspect
    asked = suspect + _drawn(victim, settings) * (share if settings.masked_share is None else 1.0)
    points = settings.steps if settings.attribution == "integrated_gradients" else 1
    known = [one.distinct for one in testsets]
    # the gradient goes back to the embeddings and to no weight: it costs a second forward pass
    return Work(predicted=(min(asked, sum(known)) + 2 * points * asked) * victim.forward)


def rewrite(language_model: Size, victim: Victim, settings: AnyPurification, asked: Asked) -> Work:
    """A test set that ONION rewrites for all victims."""
    size = asked.rows * (victim.texts.kilobytes * 1000 + 150)
    read = _surprises(language_model, victim, settings, [asked]) if isinstance(settings, Onion) else Work()
    return read + Work(megabytes=size / 1e6)


def filtering(
    language_model: Size, victim: Victim, settings: AnyFiltering, attack: AnyAttack | None, rate: float
) -> Work:
    """A training set of which ONION drops rows: every one is read, and the clean samples of the calibration."""
    rows = victim.rows("train")
    read = replace(victim.clean("train"), rows=(1 - rate) * rows).distinct
    if attack is not None:
        read += replace(victim.triggered("train", attack), rows=rate * rows).distinct
    if settings.threshold is None:
        read += min(settings.calibration_inputs, victim.rows("clean"))
    return _scored(language_model, victim, read) + _written(victim, rows)


def _surprises(language_model: Size, victim: Victim, settings: Onion, testsets: Sequence[Asked]) -> Work:
    return _scored(language_model, victim, sum(one.distinct for one in testsets) + _drawn(victim, settings))


def _scored(language_model: Size, victim: Victim, rows: float) -> Work:
    """Every text once, and for every word what stands behind it once more."""
    texts = victim.texts
    # each of these tokens attends to the text before it; a text's mean length stands for that
    shape = language_model.layers * language_model.hidden
    again = texts.onion_tokens * (2 * language_model.inputs + 4 * shape * texts.tokens)
    once = language_model.forward(texts.tokens) * (2 if victim.dataset.head == "pair" else 1)
    return Work(predicted=rows * (once + again))


def data(victim: Victim) -> Work:
    """Rows of a data set: all splits."""
    return _written(victim, sum(victim.rows(split) for split in ("train", "clean", "valid", "test")))


def poison(victim: Victim, attack: AnyAttack, rate: float, crafting: Victim | None = None) -> Work:
    """The poisoned training rows and the triggered sets; of each row with a trigger, an attack that asks a model takes
    one gradient back to the embeddings, which costs a second forward pass."""
    sets = [victim.triggered(split, attack) for split in ("valid", "test")]
    of = victim.texts.rows.without(attack.target_label) if attack.rate_of == "eligible" else 1.0
    injected = rate * of * victim.rows("train") + _rows(sets)
    asked = 0.0 if crafting is None else 2 * injected * crafting.forward
    return _written(victim, victim.rows("train") + _rows(sets)) + Work(predicted=asked)


def _written(victim: Victim, rows: float) -> Work:
    return Work(megabytes=rows * (victim.texts.kilobytes * 1000 + 75) / 1e6)


def weights(size: Size) -> float:
    """Megabytes of a victim's folder: float32, and its tokenizer."""
    return 4 * size.parameters / 1e6 + 4


def _answer_bytes(victim: Victim) -> float:
    return 63 + (victim.texts.kilobytes * 500 if victim.targets else 0)
