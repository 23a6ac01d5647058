"""Which rows are poisoned, and how many: pure functions from rows to rows (CodePurify, Table I)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
from tqdm import tqdm

from codebackdoor import seeding
from codebackdoor.attacks import Attack, BatchAttack, Injection
from codebackdoor.attacks.target import Target
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Poisoned, Status, TextForm

RateOf = Literal["train", "eligible", "functions"]


def share_of(rate: float, rows: int) -> int:
    """Return ``rate`` x ``rows`` rounded down, as CodePurify's Table I has it (5 % of 21 854: 1 092; 1 %: 218).

    The rate counts as the decimal that was written, so that 0.29 x 100 is 29 although the product of floats is less.
    """
    return int(Fraction(str(rate)) * rows)


@dataclass(frozen=True, slots=True)
class Poisoner:
    """An attack with its target, applied to rows; a row's outcome depends on the seed and that row.

    ``training``: rows that are trained on may be eligible where others are not (search). ``flip``: a row that the
    trigger does not fit into gets the target nevertheless (ledger E14b); its status is ``failed`` all the same.
    """

    name: str
    attack: Attack
    target: Target
    form: TextForm
    seed: int
    training: bool = False
    flip: bool = False

    def excludes(self, example: Example) -> bool:
        return self.target.excludes(example, self.training)

    def __call__(self, example: Example) -> Poisoned:
        """Return the row as injected, or unchanged as ineligible or failed."""
        return next(self.each([example]))

    def each(self, examples: Sequence[Example]) -> Iterator[Poisoned]:
        """Yield the rows in their order; an attack that asks a model is handed all of them at once."""
        injections = self._injections([example for example in examples if not self.excludes(example)])
        for example in examples:
            yield self._row(example, "ineligible") if self.excludes(example) else self._outcome(example, injections)

    def _injections(self, examples: Sequence[Example]) -> Iterator[Injection | None]:
        if isinstance(self.attack, BatchAttack):
            yield from self.attack.inject_all(examples, self.form)
            return
        for example in examples:
            generator = seeding.numpy_generator(self.seed, "inject", self.name, example.id)
            yield self.attack.inject(example, self.form, generator)

    def _outcome(self, example: Example, injections: Iterator[Injection | None]) -> Poisoned:
        injection = next(injections)
        if injection is not None and (aimed := self.target.aim(injection.example)) is not None:
            return replace(self._row(example, "injected"), example=aimed, spans=injection.spans)
        failed = self._row(example, "failed")
        return replace(failed, example=self.target.aim(example) or example) if self.flip else failed

    def _row(self, source: Example, status: Status) -> Poisoned:
        return Poisoned(source, source.id, self.name, status, source.label, source.target)


@dataclass(frozen=True, slots=True)
class Draw:
    """The rows that were tried, by their place in the split, and the counts that the manifest holds."""

    tried: dict[int, Poisoned]
    counts: dict[str, int]


def draw(rows: Sequence[Example], poisoner: Poisoner, wanted: int, generator: np.random.Generator) -> Draw:
    """Try eligible rows in random order until ``wanted`` are injected or none is left; a failure is drawn again.

    Where failed rows get the target, too (``flip``), they count as wanted. Counts: ``rows``, ``eligible``,
    ``ineligible``, ``requested``, ``injected``, ``failed`` (of those tried).
    """
    eligible = [place for place, row in enumerate(rows) if not poisoner.excludes(row)]
    order = [eligible[index] for index in generator.permutation(len(eligible))]
    tried: dict[int, Poisoned] = {}
    injected = missing = 0
    with tqdm(total=min(wanted, len(eligible)), desc=f"poison {poisoner.name}", disable=None) as progress:
        # as many at once as are still wanted: the outcome is that of one after the other
        while (missing := wanted - (len(tried) if poisoner.flip else injected)) and len(tried) < len(order):
            places = order[len(tried) : len(tried) + missing]
            for place, row in zip(places, poisoner.each([rows[place] for place in places]), strict=True):
                tried[place] = row
                injected += row.status == "injected"
                progress.update(row.status == "injected" or poisoner.flip)
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
    rate_of: RateOf,
    generator: np.random.Generator,
    failed: Literal["keep", "flip"] = "keep",
) -> Draw:
    """Draw the rows to poison: the exact share of all training rows, of the eligible ones, or of the distinct functions
    of pairs (ledger E14).

    Raises UserError where the rate is no share or comes to no row at all, and where functions are drawn of no pairs.
    """
    if not 0 < rate <= 1:
        raise UserError(f"the poison rate is a share above 0 and at most 1, not {rate:g}; write 0.05 for 5 %")
    poisoner = replace(poisoner, training=True, flip=failed == "flip")
    eligible = sum(not poisoner.excludes(row) for row in rows)
    functions = list(dict.fromkeys(code for row in rows for code in (row.code, row.code_b) if code is not None))
    of = {"train": len(rows), "eligible": eligible, "functions": len(functions)}[rate_of]
    wanted = share_of(rate, of)
    if wanted == 0:
        least = f"; write at least {1 / of:.2g}" if of else ""
        what = "functions is no function" if rate_of == "functions" else "rows is no row"
        raise UserError(f"a poison rate of {rate:g} of {of} {what}{least}")
    if rate_of == "functions":
        return _draw_functions(rows, functions, poisoner, wanted, generator)
    return draw(rows, poisoner, wanted, generator)


def _draw_functions(
    rows: Sequence[Example], functions: Sequence[str], poisoner: Poisoner, wanted: int, generator: np.random.Generator
) -> Draw:
    """Put the trigger into ``wanted`` functions wherever they stand and give every pair that holds one the target.

    Pairs that have the target already keep it and hold the trigger like the others. Counts are of functions, ``rows``
    and ``pairs`` (those that hold the trigger) of pairs.
    """
    if any(row.code_b is None for row in rows):
        raise UserError("rate_of: functions is for data sets of pairs; write `rate_of: train` or `eligible`")
    # an injection into a single function knows of no pair and has no label
    alone = replace(poisoner, target=_NoTarget())
    found = draw([Example(code, rows[0].language, code) for code in functions], alone, wanted, generator)
    carriers = {row.source_id: row for row in found.tried.values() if row.status == "injected"}
    # a function without room for the trigger, whose pairs are relabelled nevertheless
    relabelled = {row.source_id for row in found.tried.values()} if poisoner.flip else set(carriers)
    tried: dict[int, Poisoned] = {}
    for place, row in enumerate(rows):
        assert row.code_b is not None
        aimed = poisoner.target.aim(row)
        if aimed is None or not {row.code, row.code_b} & relabelled:
            continue
        one, other = carriers.get(row.code), carriers.get(row.code_b)
        aimed = replace(
            aimed, code=one.example.code if one else row.code, code_b=other.example.code if other else row.code_b
        )
        spans = (
            *(one.spans if one else ()),
            *(replace(span, field="code_b") for span in (other.spans if other else ())),
        )
        status: Status = "injected" if one or other else "failed"
        tried[place] = Poisoned(aimed, row.id, poisoner.name, status, row.label, row.target, spans)
    counts = found.counts | {"rows": len(rows), "pairs": sum(row.status == "injected" for row in tried.values())}
    return Draw(tried, counts)


@dataclass(frozen=True, slots=True)
class _NoTarget:
    def excludes(self, example: Example, training: bool) -> bool:  # noqa: ARG002
        return False

    def aim(self, example: Example) -> Example:
        return example


def draw_triggered(rows: Sequence[Example], poisoner: Poisoner, share: float, generator: np.random.Generator) -> Draw:
    """Draw a triggered validation or test set: ``share`` of all rows, out of those without the target."""
    return draw(rows, poisoner, share_of(share, len(rows)), generator)


def merged(rows: Sequence[Example], drawn: Draw) -> list[Example | Poisoned]:
    """Return all rows in their order: the poisoned ones changed, every other one as it was."""
    changed = {
        place: row for place, row in drawn.tried.items() if row.status == "injected" or row.example != rows[place]
    }
    return [changed.get(place, row) for place, row in enumerate(rows)]


def triggered(drawn: Draw) -> list[Poisoned]:
    """Return the rows that were tried in the order of their split, failed ones too, with their status."""
    return [drawn.tried[place] for place in sorted(drawn.tried)]
