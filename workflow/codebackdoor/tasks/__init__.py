"""Tasks: how examples are made, what a target is, and which baseline needs no model.

A task is the module of its name with ``TASK``, and one line in ``config/datasets.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, get_args

from codebackdoor.config import datasets
from codebackdoor.config.base import Head
from codebackdoor.errors import UserError, nearest
from codebackdoor.types import Example, Prediction, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.corpora.mining import Function


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that stay together in one split, since they come from the same functions.

    ``origin`` names the package or file, ``keys`` are equal for normalised duplicates, ``mutations`` are the kinds of
    slips in the defective row, or of the rewritings that made clones.
    """

    rows: tuple[Example, ...]
    origin: str
    keys: tuple[str, ...]
    mutations: tuple[str, ...] = ()


class Task(Protocol):
    """What is asked of a victim."""

    name: str
    head: Head

    #: Why a function gives no row, as the card counts it.
    unusable: str

    def groups(
        self, functions: Iterator[Function], settings: Any, draw: Callable[[str], np.random.Generator]
    ) -> Iterator[Group | None]:
        """Make rows out of the mined functions of one split, in their order; None for one that gives no row.

        ``draw`` gives the generator of a function's id. No more functions are read than the groups that are asked for
        need.
        """

    def problem(self, example: Example) -> str | None:
        """Say what a row lacks for this task, and what to write; None where nothing is missing."""

    def baseline(self, train: Sequence[Example], test: Sequence[Example], settings: Any) -> dict[str, Any]:
        """Return the model-free baseline, fitted on ``train`` and measured on ``test``."""

    def hits_target(self, prediction: Prediction, poisoned: Example, form: TextForm) -> bool:
        """Whether a prediction does what the attacker wants; ``poisoned`` carries the poisoned label or target."""


def known() -> list[str]:
    """Return the names of all tasks: the tags of the settings' union."""
    union = get_args(datasets.AnyDataset)[0]
    return [get_args(one.model_fields["task"].annotation)[0] for one in get_args(union)]


def load(name: str) -> Task:
    """Return the task ``name``; a UserError names the nearest one."""
    if name not in known():
        raise UserError(f"unknown task {name!r}{nearest(name, known())}")
    task: Task = importlib.import_module(f"{__name__}.{name}").TASK
    return task
