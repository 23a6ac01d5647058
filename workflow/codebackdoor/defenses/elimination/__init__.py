"""Defenses that edit the weights of a trained victim, and how one is found by its method's name."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from pydantic import TypeAdapter, ValidationError

from codebackdoor.config.eliminations import AnyElimination
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.victims.victim import Victim


@dataclass(frozen=True, slots=True)
class Trigger:
    """An inverted trigger, as ``trigger.json`` holds it.

    ``text`` and ``token_ids`` are the anchored trigger; the ids are those of an identifier that follows a space.
    ``flagged`` is the verdict of the label scan: a trigger that is not flagged is only the most suspicious one.
    ``loss`` is the mean cross entropy towards ``target_label`` with the trigger in place, in nats. ``margin`` is
    log(lowest loss of a benign shadow / loss), ``None`` where nothing was calibrated. ``losses`` holds the
    inverted loss of every place and label that was scanned. ``target_word`` is what was inverted with the trigger where
    a query takes the place of a label; the losses are then squared differences of a similarity to 1, under label 0.
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
        """The trigger of a ``trigger.json``; UserError where it holds none."""
        try:
            return TypeAdapter(cls).validate_python(read_json(path))
        except ValidationError:
            raise UserError(
                f"{path}: holds no inverted trigger; name the folder of an elimination that has one"
            ) from None


@dataclass(frozen=True, slots=True)
class Inverted:
    """What an elimination with the same search has found already: its trigger and how the search went.

    ``seconds`` are those of the phase ``inversion``, where they are known.
    """

    trigger: Trigger
    history: Mapping[str, object]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Inverted:
        """Take over the folder of an elimination, without its unlearning. UserError where it inverted nothing."""
        trigger = Trigger.read(folder / "trigger.json")
        history, facts = (_read_object(folder / name) for name in ("elimination.json", "provenance.json"))
        # the other's unlearning is none of this one's, which may do without
        for name in ("unlearning", "rounds"):
            history.pop(name, None)
        phases = facts.get("phases") or {}
        return cls(trigger, history, {name: phases[name] for name in phases if name == "inversion"})


def _read_object(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a JSON object; name the folder of an elimination, as it was written")
    return found


@dataclass(frozen=True, slots=True)
class Elimination:
    """The edited victim, the trigger where the method has one, and how it went (JSON-serialisable).

    ``seconds`` are those of the phases ``inversion`` and ``unlearning``, as far as the method came to them; they go to
    ``provenance.json`` and nowhere else.
    """

    victim: Victim
    trigger: Trigger | None
    history: Mapping[str, object] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


@contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add the wall-clock time of the block to a phase."""
    begun = time.monotonic()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.monotonic() - begun


class Eliminate(Protocol):
    """``eliminate`` of a method's module: never changes ``view.victim``, returns it itself where nothing is edited.

    ``work`` is a folder of its own for what a killed run of the same ``code`` (its fingerprint) may take up again; who
    calls removes it in the end. ``inverted`` stands for the method's own search, with the same seed, as far
    as the settings are the same.
    """

    def __call__(
        self,
        view: DefenderView,
        settings: AnyElimination,
        seed: int,
        work: Path | None = None,
        code: str | None = None,
        inverted: Inverted | None = None,
        /,
    ) -> Elimination: ...


def load(method: str) -> Eliminate:
    module = importlib.import_module(f"{__name__}.{method}")
    return cast(Eliminate, module.eliminate)
