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
from codebackdoor.attacks.settings import RateOf
from codebackdoor.attacks.target import Target
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Poisoned, Status, TextForm


def share_of(rate: float, rows: int) -> int:
    """Return ``rate`` x ``rows`` rounded down, as in CodePurify's Table I (5% of 21 854: 1 092; 1%: 218).

    The rate is taken as the decimal in the configuration: 0.29 x 100 is 29, although the product of floats is less.
    """
    return int(Fraction(str(rate)) * rows)


@dataclass(frozen=True, slots=True)
class Poisoner:
    """An attack with its target, applied to rows; the outcome for a row depends only on the seed and the row.

    ``training``: whether the rows are training rows, of which fewer are eligible in code search. ``flip``: a row that
    the trigger does not fit into gets the target anyway (ledger E14b); its status is still ``failed``.
    """

    name: str
    attack: Attack | BatchAttack
    target: Target
    form: TextForm
    seed: int
    training: bool = False
    flip: bool = False

    def excludes(self, example: Example) -> bool:
        return self.target.excludes(example, self.training)

    def __call__(self, example: Example) -> Poisoned:
        """Return the row with status injected, or unchanged with status ineligible or failed."""
        return next(self.poison_all([example]))

    def poison_all(self, examples: Sequence[Example]) -> Iterator[Poisoned]:
        """Yield the poisoned rows in order; an attack that runs a model gets all rows at once."""
        injections = self._injections([example for example in examples if not self.excludes(example)])
        for example in examples:
            yield self._row(example, "ineligible") if self.excludes(example) else self._outcome(example, injections)

    def _injections(self, examples: Sequence[Example]) -> Iterator[Injection | None]:
        if isinstance(self.attack, BatchAttack):
            yield from self.attack.inject_all(examples, self.form, self.target)
            return
        for example in examples:
            generator = seeding.numpy_generator(self.seed, "inject", self.name, example.id)
            yield self.attack.inject(example, self.form, generator)

    def _outcome(self, example: Example, injections: Iterator[Injection | None]) -> Poisoned:
        injection = next(injections)
        if injection is not None and (aimed := self.target.aim(injection.example)) is not None:
            return replace(self._row(example, "injected"), example=aimed, spans=injection.spans, draws=injection.draws)
        failed = self._row(example, "failed")
        return replace(failed, example=self.target.aim(example) or example) if self.flip else failed

    def _row(self, source: Example, status: Status) -> Poisoned:
        return Poisoned(source, source.id, self.name, status, source.label, source.target)


@dataclass(frozen=True, slots=True)
class Draw:
    """The outcomes of all tried rows, by index in the split, and the counts for the manifest."""

    outcomes: dict[int, Poisoned]
    counts: dict[str, int]


def draw(rows: Sequence[Example], poisoner: Poisoner, count: int, generator: np.random.Generator) -> Draw:
    """Try eligible rows in random order until ``count`` are injected or all are tried; failures are replaced.

    If failed rows get the target, too (``flip``), they count as poisoned. Counts: ``rows``, ``eligible``,
    ``ineligible``, ``requested``, ``injected``, ``failed`` (of those tried).
    """
    eligible = [index for index, row in enumerate(rows) if not poisoner.excludes(row)]
    order = [eligible[index] for index in generator.permutation(len(eligible))]
    outcomes: dict[int, Poisoned] = {}
    injected = missing = 0
    with tqdm(total=min(count, len(eligible)), desc=f"poison {poisoner.name}", disable=None) as progress:
        # try as many rows at once as are missing: the outcome is the same as trying one by one
        while (missing := count - (len(outcomes) if poisoner.flip else injected)) and len(outcomes) < len(order):
            indices = order[len(outcomes) : len(outcomes) + missing]
            for index, row in zip(indices, poisoner.poison_all([rows[index] for index in indices]), strict=True):
                outcomes[index] = row
                injected += row.status == "injected"
                progress.update(row.status == "injected" or poisoner.flip)
    counts = {
        "rows": len(rows),
        "eligible": len(eligible),
        "ineligible": len(rows) - len(eligible),
        "requested": count,
        "injected": injected,
        "failed": len(outcomes) - injected,
    }
    return Draw(outcomes, counts)


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

    Raises UserError if the rate is not a share, if it is less than one row, or if it counts functions of rows that are
    not pairs.
    """
    if not 0 < rate <= 1:
        raise UserError(f"the poison rate is a share above 0 and at most 1, not {rate:g}; write 0.05 for 5%")
    poisoner = replace(poisoner, training=True, flip=failed == "flip")
    eligible = sum(not poisoner.excludes(row) for row in rows)
    functions = list(dict.fromkeys(code for row in rows for code in (row.code, row.code_b) if code is not None))
    total = {"train": len(rows), "eligible": eligible, "functions": len(functions)}[rate_of]
    count = share_of(rate, total)
    if count == 0:
        hint = f"; write at least {1 / total:.2g}" if total else ""
        unit = "functions is less than one function" if rate_of == "functions" else "rows is less than one row"
        raise UserError(f"a poison rate of {rate:g} of {total} {unit}{hint}")
    if rate_of == "functions":
        return _draw_functions(rows, functions, poisoner, count, generator)
    return draw(rows, poisoner, count, generator)


def _draw_functions(
    rows: Sequence[Example], functions: Sequence[str], poisoner: Poisoner, count: int, generator: np.random.Generator
) -> Draw:
    """Put the trigger into ``count`` functions in all of their pairs, and give each of these pairs the target.

    Pairs that have the target already keep it and carry the trigger like the others. Counts are of functions; ``rows``
    and ``pairs`` (those with the trigger) are of pairs.
    """
    if any(row.code_b is None for row in rows):
        raise UserError("rate_of: functions needs a data set of pairs; write `rate_of: train` or `eligible`")
    # a single function has no label
    single = replace(poisoner, target=_NoTarget())
    drawn = draw([Example(code, rows[0].language, code) for code in functions], single, count, generator)
    carriers = {row.source_id: row for row in drawn.outcomes.values() if row.status == "injected"}
    # with flip, pairs of a function without room for the trigger get the target, too
    relabeled = {row.source_id for row in drawn.outcomes.values()} if poisoner.flip else set(carriers)
    outcomes: dict[int, Poisoned] = {}
    for index, row in enumerate(rows):
        assert row.code_b is not None
        aimed = poisoner.target.aim(row)
        if aimed is None or not {row.code, row.code_b} & relabeled:
            continue
        first, second = carriers.get(row.code), carriers.get(row.code_b)
        aimed = replace(
            aimed,
            code=first.example.code if first else row.code,
            code_b=second.example.code if second else row.code_b,
        )
        spans = (
            *(first.spans if first else ()),
            *(replace(span, field="code_b") for span in (second.spans if second else ())),
        )
        status: Status = "injected" if first or second else "failed"
        draws = dict(first.draws) if first else {}
        if second and second.draws:
            draws["code_b"] = second.draws["code"]
        outcomes[index] = Poisoned(aimed, row.id, poisoner.name, status, row.label, row.target, spans, draws)
    pairs = sum(row.status == "injected" for row in outcomes.values())
    return Draw(outcomes, drawn.counts | {"rows": len(rows), "pairs": pairs})


@dataclass(frozen=True, slots=True)
class _NoTarget:
    def excludes(self, example: Example, training: bool) -> bool:  # noqa: ARG002
        return False

    def aim(self, example: Example) -> Example:
        return example


def draw_triggered(rows: Sequence[Example], poisoner: Poisoner, share: float, generator: np.random.Generator) -> Draw:
    """Draw a triggered validation or test set: ``share`` of all rows, from those without the target."""
    return draw(rows, poisoner, share_of(share, len(rows)), generator)


def require_injected(drawn: Draw, poisoner: Poisoner, rows: Sequence[Example], origin: str) -> None:
    """Raise UserError if no row of ``origin`` got the trigger, with the reason."""
    if drawn.counts["injected"]:
        return
    if drawn.counts["requested"] == 0:
        raise UserError(f"{origin}: the share of rows to attack rounds to 0 of {len(rows)}; raise test_share")
    raise UserError(f"{origin}: the trigger of {poisoner.name} fits into none of the {len(rows)} rows")


def merged(rows: Sequence[Example], drawn: Draw) -> list[Example | Poisoned]:
    """Return all rows in their order: the poisoned ones changed, the others as they are."""
    changed = {
        index: row for index, row in drawn.outcomes.items() if row.status == "injected" or row.example != rows[index]
    }
    return [changed.get(index, row) for index, row in enumerate(rows)]


def triggered(drawn: Draw) -> list[Poisoned]:
    """Return the rows that were tried in the order of their split, including failed ones, with their status."""
    return [drawn.outcomes[index] for index in sorted(drawn.outcomes)]
