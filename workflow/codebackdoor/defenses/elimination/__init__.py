"""Defenses that edit the weights of a trained victim, and how one is found by its method's name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from codebackdoor.config.eliminations import AnyElimination
from codebackdoor.types import DefenderView
from codebackdoor.victims.victim import Victim


@dataclass(frozen=True, slots=True)
class Trigger:
    """An inverted trigger, as ``trigger.json`` holds it.

    ``text`` and ``token_ids`` are the anchored trigger; the ids are those of an identifier that follows a space.
    ``flagged`` is the verdict of the label scan: a trigger that is not flagged is only the most suspicious one.
    ``loss`` is the mean cross entropy towards ``target_label`` with the trigger in place, in nats. ``margin`` is
    log(lowest loss of a benign shadow / loss), ``None`` where nothing was calibrated. ``losses`` holds the
    inverted loss of every place and label that was scanned.
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


@dataclass(frozen=True, slots=True)
class Elimination:
    """The edited victim, the trigger where the method has one, and how it went (JSON-serialisable)."""

    victim: Victim
    trigger: Trigger | None
    history: Mapping[str, object] = field(default_factory=dict)


class Eliminate(Protocol):
    """``eliminate`` of a method's module: never changes ``view.victim``, returns it itself where nothing is edited.

    ``work`` is a folder of its own for what a killed run of the same ``code`` (its fingerprint) may take up again; who
    calls removes it in the end.
    """

    def __call__(
        self,
        view: DefenderView,
        settings: AnyElimination,
        seed: int,
        work: Path | None = None,
        code: str | None = None,
        /,
    ) -> Elimination: ...


def load(method: str) -> Eliminate:
    module = importlib.import_module(f"{__name__}.{method}")
    return cast(Eliminate, module.eliminate)
