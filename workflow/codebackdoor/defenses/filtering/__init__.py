"""Defenses that drop rows from a training set before a victim is trained on it, and how one is found by its name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from codebackdoor.config.filterings import AnyFiltering
from codebackdoor.defenses.views import TextView, TrainingRow


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether a row is dropped, and the method's own evidence, JSON-serialisable."""

    id: str
    dropped: bool
    detail: Mapping[str, object] = field(default_factory=dict)


class Filter(Protocol):
    """Says of each row whether it should be trained on.

    Rows come in an order that says nothing, with opaque ids and without provenance; a label or target among them may
    be a poisoned one. The result has one entry a row, in the same order. ``facts`` are for the report: a threshold, and
    what it rests on.
    """

    @property
    def facts(self) -> Mapping[str, object]: ...

    def judge(self, rows: Sequence[TrainingRow]) -> list[Judged]: ...


class Build(Protocol):
    """``build`` of a method's module: a filter calibrated on ``view.clean``.

    These are the defender's own clean samples, which are set aside from the training rows before any attack.
    """

    def __call__(self, view: TextView, settings: AnyFiltering, seed: int) -> Filter: ...


def load(method: str) -> Build:
    module = importlib.import_module(f"{__name__}.{method}")
    return cast(Build, module.build)
