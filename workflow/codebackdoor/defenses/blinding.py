"""Keeps a defense from knowing more than its view: a neutral order of rows, no memory, no names of the job.

This prevents accidents and shortcuts, not deliberate cheating: a method runs in this process and may read any file, so
its code has to be reviewed.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Generic, TypeVar, cast

import click
from click.globals import pop_context, push_context
from tokenizers import Tokenizer
from torch import Tensor

from codebackdoor.errors import UserError
from codebackdoor.types import Example

T = TypeVar("T")
R = TypeVar("R")
#: Unpredictable on purpose, so that no method knows which inputs are checked; no output depends on it.
_RANDOM = random.SystemRandom()
#: One in how many inputs of a test set is processed alone as well, but at least ``FEWEST_CHECKED`` (or all of fewer).
CHECKED_PART, FEWEST_CHECKED = 20, 16
#: Share of the checked inputs that may differ: rounding explains a few differences, a comparison of rows causes more.
MAY_DIFFER = 1 / 16
#: Types whose objects a copy shares with its original: large or read-only, and unsuitable for keeping notes.
_SHARED = (Tensor, Tokenizer, Example, FunctionType, ModuleType, type)


def neutral_order(rows: Sequence[Example]) -> list[int]:
    """Indices of the rows in an order that depends only on their texts, so that it reveals no original position.

    Rows with equal texts are ordered by their ids, which no method sees: no seed leads back to the original order, and
    the same rows have the same order and the same batches in every run.
    """
    return sorted(range(len(rows)), key=lambda index: _digests(rows[index]))


def _digests(row: Example) -> tuple[bytes, bytes]:
    texts = repr((row.code, row.code_b, row.query))
    return hashlib.sha256(texts.encode()).digest(), hashlib.sha256(row.id.encode()).digest()


@dataclass(frozen=True, slots=True)
class IndependenceCheck(Generic[R]):
    """How the result for an input alone is compared with the one within its test set.

    ``most``: maximum number of inputs of a test set that are checked. ``complaint``: what is wrong with inputs that
    differ, as the rest of a sentence.
    """

    is_same: Callable[[R, R], bool]
    most: int
    complaint: str

    def sample(self, count: int) -> list[int]:
        """Random indices of the rows to check among ``count``."""
        return _RANDOM.sample(range(count), min(count, max(FEWEST_CHECKED, min(self.most, count // CHECKED_PART))))

    def compare(self, pairs: Sequence[tuple[R, R]]) -> None:
        differing = sum(not self.is_same(alone, together) for alone, together in pairs)
        if differing > MAY_DIFFER * len(pairs):
            raise UserError(f"{differing} of {len(pairs)} inputs {self.complaint}")


def applied_blindly(
    method: T,
    apply: Callable[[T, Sequence[Example]], Sequence[R]],
    testsets: Mapping[str, Sequence[Example]],
    check: IndependenceCheck[R],
) -> dict[str, list[R]]:
    """One result for each row: each test set is a separate call, in neutral order and without ids, labels and targets.

    No call can learn from another: each uses a copy of ``method`` in its initial state. Some random inputs are first
    processed one by one, and the results must be the same within the test set; UserError if too many differ.
    """
    copies = Copies(method)
    orders = {name: neutral_order(rows) for name, rows in testsets.items()}
    bare = {
        name: [
            replace(testsets[name][index], id=str(number), label=None, target=None)
            for number, index in enumerate(order)
        ]
        for name, order in orders.items()
    }
    sample = [(name, number) for name, rows in bare.items() for number in check.sample(len(rows))]
    _RANDOM.shuffle(sample)
    alone = {(name, number): apply(copies.copy(), [bare[name][number]])[0] for name, number in sample}
    together = {name: apply(copies.copy(), rows) for name, rows in bare.items()}
    check.compare([(result, together[name][number]) for (name, number), result in alone.items()])
    by_index = {name: dict(zip(order, together[name], strict=True)) for name, order in orders.items()}
    return {name: [by_index[name][index] for index in range(len(rows))] for name, rows in testsets.items()}


@contextmanager
def nameless() -> Iterator[None]:
    """Hide the names of the job while a method runs: the command's options and the arguments of the process."""
    contexts = []
    while (context := click.get_current_context(silent=True)) is not None:
        contexts.append(context)
        pop_context()
    arguments, original = sys.argv, sys.orig_argv
    sys.argv, sys.orig_argv = arguments[:1], original[:1]
    try:
        yield
    finally:
        sys.argv, sys.orig_argv = arguments, original
        for context in reversed(contexts):
            push_context(context)


@contextmanager
def unnamed(folder: Path) -> Iterator[Path]:
    """A neutral path to a folder whose path names the attack; an empty folder is removed in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory() as parent:
            link = Path(parent) / "work"
            link.symlink_to(folder.absolute(), target_is_directory=True)
            yield link
    finally:
        with suppress(OSError):
            folder.rmdir()


class Copies(Generic[T]):
    """Copies of an object in its current state, which share weights, tokenizers and rows; UserError if pickle fails."""

    def __init__(self, original: T) -> None:
        stream = io.BytesIO()
        pickler = _Pickler(stream)
        try:
            pickler.dump(original)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            raise UserError(f"{type(original).__name__} contains something that cannot be copied: {error}") from error
        self._state, self._shared = stream.getvalue(), pickler.shared

    def copy(self) -> T:
        return cast(T, _Unpickler(self._state, self._shared).load())


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self.shared: list[object] = []

    def persistent_id(self, value: object) -> int | None:
        rows = isinstance(value, tuple) and bool(value) and isinstance(value[0], Example)
        if not (rows or isinstance(value, _SHARED)):
            return None
        self.shared.append(value)
        return len(self.shared) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, state: bytes, shared: Sequence[object]) -> None:
        super().__init__(io.BytesIO(state))
        self._shared = shared

    def persistent_load(self, index: int) -> object:
        return self._shared[index]
