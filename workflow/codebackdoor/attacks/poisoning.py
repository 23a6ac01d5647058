"""Which rows are poisoned, and how many: pure functions from rows to rows (DESIGN section 5; CodePurify, Table I)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from tqdm import tqdm

from codebackdoor import seeding
from codebackdoor.attacks import Attack
from codebackdoor.attacks.target import Target
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Poisoned, TextForm


def share_of(rate: float, rows: int) -> int:
    """Return ``rate`` x ``rows`` rounded down, as CodePurify's Table I has it (5 % of 21 854: 1 092; 1 %: 218).

    The rate counts as the decimal that was written, so that 0.29 x 100 is 29 although the product of floats is less.
    """
    return int(Fraction(str(rate)) * rows)


@dataclass(frozen=True, slots=True)
class Poisoner:
    """An attack with its target, applied to one row at a time; a row's outcome depends on the seed and that row."""

    name: str
    attack: Attack
    target: Target
    form: TextForm
    seed: int

    def __call__(self, example: Example) -> Poisoned:
        """Return the row as injected, or unchanged as ineligible or failed."""
        if self.target.reached(example):
            return self._row(example, example, "ineligible")
        generator = seeding.numpy_generator(self.seed, "inject", self.name, example.id)
        injection = self.attack.inject(example, self.form, generator)
        aimed = None if injection is None else self.target.aim(injection.example)
        if injection is None or aimed is None:
            return self._row(example, example, "failed")
        row = self._row(example, aimed, "injected")
        return Poisoned(
            row.example, row.source_id, row.attack, row.status, example.label, example.target, injection.spans
        )

    def _row(self, source: Example, example: Example, status: Literal["injected", "failed", "ineligible"]) -> Poisoned:
        return Poisoned(example, source.id, self.name, status, source.label, source.target)


@dataclass(frozen=True, slots=True)
class Draw:
    """The rows that were tried, by their place in the split, and the counts that the manifest holds."""

    tried: dict[int, Poisoned]
    counts: dict[str, int]


def draw(rows: Sequence[Example], poisoner: Poisoner, wanted: int, generator: np.random.Generator) -> Draw:
    """Try eligible rows in random order until ``wanted`` are injected or none is left; a failure is drawn again.

    Counts: ``rows``, ``eligible``, ``ineligible``, ``requested``, ``injected``, ``failed`` (of those tried).
    """
    eligible = [place for place, row in enumerate(rows) if not poisoner.target.reached(row)]
    tried: dict[int, Poisoned] = {}
    injected = 0
    with tqdm(total=min(wanted, len(eligible)), desc=f"poison {poisoner.name}", disable=None) as progress:
        for index in generator.permutation(len(eligible)):
            if injected == wanted:
                break
            row = poisoner(rows[eligible[index]])
            tried[eligible[index]] = row
            injected += row.status == "injected"
            progress.update(row.status == "injected")
    counts = {
        "rows": len(rows),
        "eligible": len(eligible),
        "ineligible": len(rows) - len(eligible),
        "requested": wanted,
        "injected": injected,
        "failed": len(tried) - injected,
    }
    return Draw(tried, counts)


def draw_training(
    rows: Sequence[Example],
    poisoner: Poisoner,
    rate: float,
    rate_of: Literal["train", "eligible"],
    generator: np.random.Generator,
) -> Draw:
    """Draw the rows to poison: the exact share of all training rows, or of the eligible ones (FIDELITY E14).

    Raises UserError where the rate is no share or comes to no row at all.
    """
    if not 0 < rate <= 1:
        raise UserError(f"the poison rate is a share above 0 and at most 1, not {rate:g}; write 0.05 for 5 %")
    eligible = sum(not poisoner.target.reached(row) for row in rows)
    of = len(rows) if rate_of == "train" else eligible
    wanted = share_of(rate, of)
    if wanted == 0:
        least = f"; write at least {1 / of:.2g}" if of else ""
        raise UserError(f"a poison rate of {rate:g} of {of} rows is no row{least}")
    return draw(rows, poisoner, wanted, generator)


def draw_triggered(rows: Sequence[Example], poisoner: Poisoner, share: float, generator: np.random.Generator) -> Draw:
    """Draw a triggered validation or test set: ``share`` of all rows, out of those without the target."""
    return draw(rows, poisoner, share_of(share, len(rows)), generator)


def merged(rows: Sequence[Example], drawn: Draw) -> list[Example | Poisoned]:
    """Return all rows in their order, the injected ones poisoned and every other one as it was."""
    poisoned = {place: row for place, row in drawn.tried.items() if row.status == "injected"}
    return [poisoned.get(place, row) for place, row in enumerate(rows)]


def triggered(drawn: Draw) -> list[Poisoned]:
    """Return the rows that were tried in the order of their split, failed ones too, with their status."""
    return [drawn.tried[place] for place in sorted(drawn.tried)]
