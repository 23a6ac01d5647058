"""Defenses that edit the weights of a trained victim: the data that their steps exchange, and loading a method."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from pydantic import TypeAdapter, ValidationError

from codebackdoor.config.base import tag_of
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.files import read_json, read_object
from codebackdoor.loader import implementation

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyElimination
    from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings
    from codebackdoor.victims.victim import Victim


@dataclass(frozen=True, slots=True)
class Trigger:
    """An inverted trigger, as ``trigger.json`` holds it.

    ``text`` and ``token_ids`` are the anchored trigger; the ids are those of an identifier that follows a space.
    ``flagged`` is the verdict of the label scan: a trigger that is not flagged is only the most suspicious one.
    ``loss`` is the search's loss towards ``target_label`` with the trigger in place, by default the mean cross entropy
    in nats. ``margin`` is log(lowest loss of a benign shadow / loss), None without a calibration. ``losses`` holds the
    inverted loss of every position and label that was scanned. For code search, ``target_word`` holds the words of the
    query that were inverted with the trigger; losses are then squared differences of a similarity to 1, under label 0.
    """

    text: str
    token_ids: tuple[int, ...]
    target_label: int
    flagged: bool
    position: str
    occurrences: str
    loss: float
    inverted_text: str
    inverted_ids: tuple[int, ...]
    inverted_loss: float
    margin: float | None
    losses: Mapping[str, Mapping[str, float]]
    target_word: str | None = None

    @classmethod
    def read(cls, path: Path) -> Trigger:
        """The trigger in a ``trigger.json``; UserError where it holds none."""
        try:
            return TypeAdapter(cls).validate_python(read_json(path))
        except ValidationError:
            raise UserError(
                f"{path}: holds no inverted trigger; name the folder of an elimination that has one"
            ) from None


@dataclass(frozen=True, slots=True)
class Inversion:
    """The result of a search: the trigger, and how the search went (JSON-serializable).

    ``seconds`` are those of the phase ``inversion``, where they are known.
    """

    trigger: Trigger
    history: Mapping[str, object]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Inversion:
        """The search of a finished elimination, without its unlearning. UserError where it inverted nothing."""
        trigger = Trigger.read(folder / "trigger.json")
        history, facts = (read_object(folder / name) for name in ("elimination.json", "provenance.json"))
        for name in ("unlearning", "rounds"):
            history.pop(name, None)
        phases = facts.get("phases") or {}
        return cls(trigger, history, {name: phases[name] for name in phases if name == "inversion"})


@dataclass(frozen=True, slots=True)
class SearchContext:
    """What only a resumable search needs.

    A killed run resumes from its progress in ``folder`` if its ``code`` (a fingerprint) is the same; the caller removes
    the folder at the end. ``earlier`` is a finished search with the same seed, which is reused where its settings are
    the same.
    """

    folder: Path | None = None
    code: str | None = None
    earlier: Inversion | None = None

    def of_round(self, number: int) -> SearchContext:
        """The context of a later scan of the same elimination: with its own folder, and nothing to reuse."""
        return SearchContext(self.folder / f"round{number}" if self.folder else None, self.code)


#: A search that keeps no progress and reuses nothing.
NO_CONTEXT = SearchContext()


@dataclass(frozen=True, slots=True)
class Elimination:
    """The edited victim, the trigger if the method has one, and how it went (JSON-serializable).

    ``seconds`` are those of the phases ``inversion`` and ``unlearning``, if the method reached them; they go to
    ``provenance.json`` and nowhere else.
    """

    victim: Victim
    trigger: Trigger | None
    history: Mapping[str, object] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


@contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add the wall-clock time of the block to a phase."""
    start = time.monotonic()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.monotonic() - start


class Eliminate(Protocol):
    """``eliminate`` of a method's module ``method``: returns an edited copy, or ``view.victim`` itself unedited."""

    def __call__(
        self, view: DefenderView, settings: AnyElimination, seed: int, context: SearchContext = NO_CONTEXT, /
    ) -> Elimination: ...


class LabelScanner(Protocol):
    """What the module ``method`` of a method with ``CalibratedSettings`` has."""

    def eliminate(
        self, view: DefenderView, settings: CalibratedSettings, seed: int, context: SearchContext = NO_CONTEXT, /
    ) -> Elimination:
        """As ``Eliminate``; the trigger of ``context.earlier`` is unlearned if its search was the same."""

    def find(
        self, view: DefenderView, settings: CalibratedSettings, seed: int, context: SearchContext = NO_CONTEXT, /
    ) -> Inversion:
        """The most suspicious trigger, flagged or not, and how the search for it went."""

    def scan_losses(
        self, view: DefenderView, settings: CalibratedSettings, seed: int, context: SearchContext = NO_CONTEXT, /
    ) -> Mapping[str, Mapping[str, float]]:
        """The lowest loss of the search at each position for each label (as text), without a verdict."""


def load(method: str) -> Eliminate:
    """The ``eliminate`` of a method, by the name that its settings have."""
    return cast(Eliminate, implementation(__name__, method).eliminate)


def load_scanner(settings: CalibratedSettings) -> LabelScanner:
    """The label scan of a method."""
    return cast(LabelScanner, implementation(__name__, str(tag_of(type(settings)))))
