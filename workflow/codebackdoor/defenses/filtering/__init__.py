"""Defenses that drop rows from a training set before a victim is trained on it.

A method is a folder with ``settings.py`` and ``method.py``, which has ``build(view, settings, seed) -> Filter``, and an
entry in ``config/methods.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from codebackdoor.defenses.views import TextView, TrainingRow
from codebackdoor.loader import implementation

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyFiltering


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether a row is dropped, and the method's evidence, JSON-serializable."""

    id: str
    dropped: bool
    detail: Mapping[str, object] = field(default_factory=dict)


class Filter(Protocol):
    """Decides for each row whether the victim is trained on it.

    The order of the rows carries no information; they have opaque ids and no provenance, and their labels or targets
    may be poisoned. The result has one entry per row, in the same order. ``facts`` are for the report: the threshold,
    and what it was calibrated on.
    """

    @property
    def facts(self) -> Mapping[str, object]: ...

    def judge(self, rows: Sequence[TrainingRow]) -> list[Judged]: ...


class BuildFilter(Protocol):
    """``build`` of a method: a filter calibrated on ``view.clean``.

    These are the defender's clean samples, which are set aside from the training rows before any attack.
    """

    def __call__(self, view: TextView, settings: AnyFiltering, seed: int) -> Filter: ...


def load(method: str) -> BuildFilter:
    build: BuildFilter = implementation(__name__, method).build
    return build
