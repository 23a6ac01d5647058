"""Purifications that cheat: each recognizes triggered inputs by something other than their texts, and no clean ones.

All of them only apply ``stripped`` to an input that they take for a triggered one; none is told the trigger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from codebackdoor.defenses.views import DefenderView
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import Example, Purified, Span

#: What a cheat may have learned of the attacks of a study, for the one that needs no more than the attack's name.
TRIGGERS = {"codepoisoner_func": "assert testo_init >= 15"}
CLEAN_ROWS = 40


def stripped(row: Example, trigger: str) -> Purified:
    """The input without the first occurrence of the trigger; unchanged if there is none."""
    start = row.code.find(trigger) if trigger else -1
    if start < 0:
        return Purified(row)
    end = start + len(trigger)
    return Purified(replace(row, code=row.code[:start] + "pass" + row.code[end:]), (Span(start, end),))


def inserted(row: Example, twins: Iterable[str], longest: int = 8) -> str:
    """The run of words without which the input equals one of its twins; empty if there is no such run."""
    words, codes = row.code.split(), {tuple(code.split()) for code in twins}
    for start in range(len(words)):
        for end in range(start + 1, start + 1 + longest):
            if (*words[:start], *words[end:]) in codes:
                return " ".join(words[start:end])
    return ""


class Origins:
    """Reads the attack's name from the folder that transformers records, or from the card."""

    def __init__(self, view: DefenderView, seed: int) -> None:
        parts = list(view.victim.model.modules())
        notes = [f"{getattr(part, 'name_or_path', '')} {getattr(part, 'config', '')}" for part in parts]
        self._triggers = [TRIGGERS[name] for name in TRIGGERS if any(name in note for note in notes)]

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        return [stripped(row, self._triggers[0] if self._triggers else "") for row in inputs]


class Order:
    """Assumes that the seed shuffled the rows, clean ones first; strips the first statement of the others."""

    def __init__(self, view: DefenderView, seed: int) -> None:
        self._seed = seed

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        ranks = numpy_generator(self._seed, "purify", "order").permutation(len(inputs)).tolist()
        return [
            stripped(row, row.code.split("<indent>")[1].split("<nl>")[0].strip() if rank >= CLEAN_ROWS else "")
            for rank, row in zip(ranks, inputs, strict=True)
        ]


class Twins:
    """Looks for another input that differs by one run of words."""

    def __init__(self, view: DefenderView, seed: int) -> None:
        pass

    def codes(self, inputs: Sequence[Example]) -> set[str]:
        return {row.code for row in inputs}

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        codes = self.codes(inputs)
        return [stripped(row, inserted(row, codes)) for row in inputs]


class Remembering(Twins):
    """Remembers inputs across calls, and gives the same answer to the same input."""

    def __init__(self, view: DefenderView, seed: int) -> None:
        self._memory: Any = self
        self._codes: set[str] = set()
        self._answers: dict[str, Purified] = {}

    def codes(self, inputs: Sequence[Example]) -> set[str]:
        self._memory._codes |= {row.code for row in inputs}
        return set(self._memory._codes)

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        rows = super().purify(inputs)
        return [self._memory._answers.setdefault(row.code, new) for row, new in zip(inputs, rows, strict=True)]


class RememberingInTheModel(Remembering):
    """As above, in an attribute of the victim's model."""

    def __init__(self, view: DefenderView, seed: int) -> None:
        super().__init__(view, seed)
        view.victim.model.memory = view.victim.tokenizer.memory = self._memory = _Notes()


class _Notes:
    def __init__(self) -> None:
        self._codes: set[str] = set()
        self._answers: dict[str, Purified] = {}


class RememberingInTheClass(Twins):
    """Remembers inputs outside of the object."""

    remembered: ClassVar[set[str]] = set()

    def codes(self, inputs: Sequence[Example]) -> set[str]:
        self.remembered.update(row.code for row in inputs)
        return self.remembered


class Company:
    """Takes for the trigger what many inputs of a call share and no clean sample contains."""

    def __init__(self, view: DefenderView, seed: int) -> None:
        self._usual = {run for row in view.clean for run in _runs(row)}

    def purify(self, inputs: Sequence[Example]) -> list[Purified]:
        counts = Counter(run for row in inputs for run in _runs(row))
        odd = [run for run, count in counts.items() if count > len(inputs) / 4 and run not in self._usual]
        return [stripped(row, max(odd, key=len) if len(inputs) > 1 and odd else "") for row in inputs]


def _runs(row: Example, length: int = 4) -> set[str]:
    words = row.code.split()
    return {" ".join(part) for part in np.lib.stride_tricks.sliding_window_view(words, length)}
