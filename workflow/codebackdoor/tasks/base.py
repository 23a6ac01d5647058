"""The interface of a task, and a base class for tasks that make each group from a single function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from codebackdoor.heads import HEADS
from codebackdoor.types import Example, Poisoned, Prediction, TextForm

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.corpora.mining import MinedFunction
    from codebackdoor.tasks.settings import DatasetSettings

#: Generator of the random choices for a function, by its id.
Draw = Callable[[str], "np.random.Generator"]


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that stay together in one split because they come from the same functions.

    ``origin`` names the package or file, ``keys`` are equal for normalized duplicates, ``mutations`` are the kinds of
    defects in the defective row, or of the rewritings that made clones.
    """

    rows: tuple[Example, ...]
    origin: str
    keys: tuple[str, ...]
    mutations: tuple[str, ...] = ()


class Task(ABC):
    """How examples of a task are made and checked; its facts are in its settings' class."""

    #: Reason for which a function gives no row, as the card counts it.
    unusable: ClassVar[str]

    @abstractmethod
    def groups(self, functions: Iterator[MinedFunction], settings: Any, draw: Draw) -> Iterator[RowGroup | None]:
        """Make rows from the mined functions of one split, in their order; None for a function that gives no row.

        No more functions are read than the requested groups need.
        """

    @abstractmethod
    def baseline(self, train: Sequence[Example], test: Sequence[Example], settings: Any) -> dict[str, Any]:
        """The model-free baseline, fitted on ``train`` and measured on ``test``."""

    def problem(self, example: Example, settings: DatasetSettings) -> str | None:
        """What a row lacks for this task, and what to write; None if nothing is missing."""
        for field, meaning in settings.reads.items():
            if field not in example.texts:
                return f"needs a {field!r}, {meaning}"
        learns = HEADS[settings.head].learns
        if learns == "label" and example.label not in settings.labels:
            options = " or ".join(f"{label} ({meaning})" for label, meaning in settings.labels.items())
            return f"needs a 'label', {options}, not {example.label!r}"
        if learns == "target" and example.target is None:
            return f"needs a 'target', {settings.target}"
        unused = (name for name in ("label", "target") if name != learns and getattr(example, name) is not None)
        name = next(unused, None)
        return None if name is None else f"has a {name!r}, which this task does not use; remove it"

    def in_form(self, example: Example, settings: Any) -> Example:  # noqa: ARG002
        """A published row whose query is in the data set's text form; plain language is the same in every form."""
        return example

    def hits_target(self, prediction: Prediction, row: Poisoned, form: TextForm) -> bool:  # noqa: ARG002
        """Whether a prediction is what the attacker of ``row`` wants: its poisoned label or target."""
        return prediction.label == row.example.label

    def card_facts(self, groups: Mapping[str, Sequence[RowGroup]]) -> dict[str, Any]:  # noqa: ARG002
        """What the card says about how the local examples of each split were made."""
        return {}


class PublishedTask(Task):
    """A task without local examples (``DatasetSettings.not_mined``)."""

    unusable = "no_example"

    def groups(self, functions: Iterator[MinedFunction], settings: Any, draw: Draw) -> Iterator[RowGroup | None]:
        raise NotImplementedError(f"{settings.task} has no local examples: {settings.not_mined}")


class OneFunctionTask(Task):
    """A function's rows depend only on the seed and that function, not on the sizes of the splits."""

    @abstractmethod
    def group(self, function: MinedFunction, settings: Any, generator: np.random.Generator) -> RowGroup | None:
        """Make rows from one function; None if that is not possible."""

    def groups(self, functions: Iterator[MinedFunction], settings: Any, draw: Draw) -> Iterator[RowGroup | None]:
        return (self.group(function, settings, draw(function.id)) for function in functions)
