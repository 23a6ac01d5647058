"""Greedy coordinate gradient search (EliBadCode, Algorithm 1, lines 1-23): one loop for every head.

The objective defines what a step tries and how it is scored; ``classifier`` and EliBadCode's ``retrieval`` each have
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from codebackdoor.defenses.elimination.inversion.candidates import Candidate, VocabularyIndices
from codebackdoor.defenses.elimination.inversion.resume import SearchProgress
from codebackdoor.defenses.elimination.inversion.settings import GreedySearchSettings

#: A step that does not lower the lowest loss by more than this counts as a standstill (``patience``).
GAIN = 1e-3


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A finished search: the best trigger that it visited, as vocabulary indices, and its loss.

    ``history`` is the loss of the current trigger before the first and after every step; ``scored`` and ``dropped``
    count the candidates that the victim scored and those whose text encodes to other pieces. ``target`` holds the
    target words, if these were searched as well, as indices of their own vocabulary.
    """

    trigger: VocabularyIndices
    loss: float
    history: tuple[float, ...]
    scored: int
    dropped: int
    target: VocabularyIndices = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Trajectory:
        """Read what ``dataclasses.asdict`` wrote."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
        }
        return cls(**values)


class Step(NamedTuple):
    """The outcome of a step: the candidate that is now current (None: nothing is left to try), and its loss."""

    candidate: Candidate | None
    loss: float
    scored: int
    dropped: int


class SearchObjective(Protocol):
    """What is searched, and with what budget: a search's start and its steps."""

    @property
    def settings(self) -> GreedySearchSettings: ...

    def first(self, generator: np.random.Generator) -> Candidate:
        """A random start."""
        ...

    def loss(self, candidate: Candidate) -> float: ...

    def step(self, current: Candidate, loss: float, visited: set[Candidate], generator: np.random.Generator) -> Step:
        """Try neighbors of the current candidate, and add to ``visited`` those that are not to be tried again."""
        ...


@dataclass(slots=True)
class SearchState:
    """A search in progress: all that the next step depends on, except for the generator."""

    current: Candidate
    loss: float
    lowest: Candidate
    lowest_loss: float
    visited: set[Candidate]
    history: list[float] = field(default_factory=list)
    scored: int = 0
    dropped: int = 0
    standstill: int = 0
    ended: bool = False

    @classmethod
    def begin(cls, objective: SearchObjective, generator: np.random.Generator) -> SearchState:
        candidate = objective.first(generator)
        loss = objective.loss(candidate)
        return cls(candidate, loss, candidate, loss, {candidate}, [loss])

    def move(self, candidate: Candidate, loss: float) -> None:
        self.current, self.loss = candidate, loss
        self.history.append(loss)
        self.standstill = 0 if self.lowest_loss - loss > GAIN else self.standstill + 1
        if loss < self.lowest_loss:
            self.lowest, self.lowest_loss = candidate, loss

    def trajectory(self) -> Trajectory:
        trigger, target = self.lowest
        return Trajectory(trigger, self.lowest_loss, tuple(self.history), self.scored, self.dropped, target)

    def to_json(self, generator: np.random.Generator) -> dict[str, Any]:
        """The state, including that of the generator."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"visited": sorted(self.visited), "generator": generator.bit_generator.state}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], generator: np.random.Generator) -> SearchState:
        """Read what ``to_json`` wrote, and restore the state of the generator."""
        values = dict(content)
        generator.bit_generator.state = values.pop("generator")
        values["current"], values["lowest"] = _candidate(values["current"]), _candidate(values["lowest"])
        values["visited"] = {_candidate(parts) for parts in values["visited"]}
        return cls(**values)


def _candidate(parts: Any) -> Candidate:
    trigger, target = parts
    return Candidate(tuple(trigger), tuple(target))


def search(
    objective: SearchObjective, generator: np.random.Generator, title: str, progress: SearchProgress | None = None
) -> Trajectory:
    """Search once from a random start (Algorithm 1, TRIGGERINVERSION).

    ``progress`` keeps the search under its ``title``: one that was killed continues where it was last saved.
    """
    settings = objective.settings
    saved = progress.state(title) if progress else None
    state = SearchState.begin(objective, generator) if saved is None else SearchState.from_json(saved, generator)
    remaining = 0 if state.ended else settings.iterations - (len(state.history) - 1)
    for _ in tqdm(range(remaining), desc=title, unit="step", leave=False, disable=None):
        step = objective.step(state.current, state.loss, state.visited, generator)
        state.scored, state.dropped = state.scored + step.scored, state.dropped + step.dropped
        if step.candidate is None:
            break
        state.move(step.candidate, step.loss)
        if settings.patience is not None and state.standstill >= settings.patience:
            break
        if progress and progress.due():
            progress.keep(title, state.to_json(generator))
    if progress and not state.ended:
        state.ended = True
        progress.keep(title, state.to_json(generator))
    return state.trajectory()
