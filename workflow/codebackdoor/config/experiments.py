"""Settings of one experiment, and the scenarios and test sets that it expands to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from codebackdoor.config.base import LARGEST, Settings, worded
from codebackdoor.config.scenario import NAME, NAME_LENGTH, NONE, UNDEFENDED_OBJECTIVE, Scenario, rate_text
from codebackdoor.config.sections import DEFENSES
from codebackdoor.errors import nearest, quoted
from codebackdoor.report.papers import tables
from codebackdoor.report.products import FIGURES, LISTINGS, PRODUCTS, WEBPAGES
from codebackdoor.types import CLEAN

Variant = Annotated[str, Field(pattern=rf"^{NAME}$", max_length=NAME_LENGTH)]


def _large_enough(rate: float) -> float:
    """Refuse a share of less than one row of any data set, whose many decimals would not fit into a file name."""
    if rate < LEAST_RATE:
        raise ValueError(f"{rate} is less than one row of any training set; write a larger share")
    return rate


T = TypeVar("T")
LEAST_RATE = 1e-9
Rate = Annotated[float, Field(gt=0, le=1), AfterValidator(_large_enough)]
#: Also accepts text, since Snakemake reads `--config seeds=[21]` as text; but true is not a seed.
Seed = Annotated[int, Field(ge=0, le=LARGEST), BeforeValidator(worded)]


def _check_name(kind: str, names: Collection[str], name: str) -> str:
    if name not in names:
        raise ValueError(f"unknown {kind} {quoted(name)}{nearest(name, names)}")
    return name


def _choice(kind: str, names: Collection[str]) -> tuple[AfterValidator, WithJsonSchema]:
    """The check of a name against a registry, and its JSON schema."""
    return AfterValidator(partial(_check_name, kind, names)), WithJsonSchema({"enum": [*names], "type": "string"})


#: Names of products (``report/products.py``) and of the papers' tables (``report/papers/``).
FigureName = Annotated[str, *_choice("figure", FIGURES)]
WebpageName = Annotated[str, *_choice("page", WEBPAGES)]
ListingName = Annotated[str, *_choice("table", LISTINGS)]
PrintedTableName = Annotated[str, *_choice("table of a paper", tables())]


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """Refuse a list with a repeated value, which is probably a typo for a different one."""
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{repeated[0]} occurs twice; write it once")
    return values


class Grid(Settings):
    """Variants that are crossed with each other; every name is declared in the section of its kind.

    The undefended victim of every attack and the undefended benign victim are always part of it.
    """

    datasets: tuple[Variant, ...] = Field(min_length=1, description="variants of `datasets`")
    models: tuple[Variant, ...] = Field(min_length=1, description="variants of `models`")
    attacks: tuple[Variant, ...] = Field(
        min_length=1, description="variants of `attacks`; with `none` the benign victim is defended too"
    )
    rates: tuple[Rate, ...] = Field((0.05,), min_length=1, description="poisoned share of the training rows")
    filterings: tuple[Variant, ...] = Field((NONE,), min_length=1, description="variants of `filterings`, or none")
    objectives: tuple[Variant, ...] = Field(
        (UNDEFENDED_OBJECTIVE,), min_length=1, description="variants of `objectives`"
    )
    eliminations: tuple[Variant, ...] = Field((NONE,), min_length=1, description="variants of `eliminations`, or none")
    purifications: tuple[Variant, ...] = Field(
        (NONE,), min_length=1, description="variants of `purifications`, or none"
    )
    seeds: tuple[Seed, ...] = Field((1,), min_length=1, description="seeds of poisoning, training and defense")
    combine: Literal["each", "all"] = Field(
        "each", description="each: one defense at a time, as in the papers' tables; all: every combination of the kinds"
    )

    @field_validator("*")
    @classmethod
    def _reject_duplicates(cls, value: Any) -> Any:
        return distinct(value) if isinstance(value, tuple) else value

    @property
    def crossed(self) -> int:
        """Number of combinations, of which some are scenarios."""
        poisoned = len(self.attacks) * len(self.rates)
        victims = len(self.datasets) * len(self.models) * len(self.seeds) * (1 + poisoned)
        kinds = (self.filterings, self.objectives, self.eliminations, self.purifications)
        return victims * math.prod(map(len, kinds))

    def victims(self) -> Iterator[Scenario]:
        """Every undefended victim of this grid, the benign one of each data set, model and seed first."""
        for dataset, model, seed in product(self.datasets, self.models, self.seeds):
            benign = Scenario(dataset, model, seed=str(seed))
            yield benign
            for attack, rate in product((a for a in self.attacks if a != NONE), self.rates):
                yield replace(benign, attack=attack, rate=rate_text(rate))

    def defended(self, victim: Scenario) -> Iterator[Scenario]:
        """The undefended victim first, then every defense of this grid on it."""
        yield victim
        if victim.attack == NONE and NONE not in self.attacks:
            return
        kinds = ("filtering", "objective", "elimination", "purification")
        crossed = product(self.filterings, self.objectives, self.eliminations, self.purifications)
        scenarios = [replace(victim, **dict(zip(kinds, values, strict=True))) for values in crossed]
        yield from sorted((s for s in scenarios if self.combine == "all" or len(defenses(s)) <= 1), key=rank)


class Selection(Settings):
    """The scenarios that match all variants named here."""

    #: Fields of subclasses that do not select.
    _NOT_SELECTING: ClassVar[frozenset[str]] = frozenset({"reason", "of", "against"})

    dataset: Variant | None = Field(None, description="a variant of `datasets`")
    filtering: Variant | None = Field(None, description="a variant of `filterings`")
    objective: Variant | None = Field(None, description="a variant of `objectives`")
    elimination: Variant | None = Field(None, description="a variant of `eliminations`")
    purification: Variant | None = Field(None, description="a variant of `purifications`")

    @property
    def variants(self) -> dict[str, str]:
        """The named variants by kind."""
        variants: dict[str, str] = self.model_dump(exclude_none=True, exclude=set(self._NOT_SELECTING))
        return variants

    def covers(self, scenario: Scenario) -> bool:
        return all(scenario.wildcards[kind] == value for kind, value in self.variants.items())

    @model_validator(mode="after")
    def _reject_empty(self) -> Self:
        if not self.variants:
            raise ValueError("an empty selection would mean every scenario; name a data set, a defense, or both")
        return self


class Dash(Selection):
    """Scenarios that the paper also leaves out: they are not run, and their cells show a dash.

    A scenario is left out if it matches every variant named here.
    """

    model: Variant | None = Field(None, description="a variant of `models`")
    attack: Variant | None = Field(None, description="a variant of `attacks`")
    reason: str | None = Field(None, description="why the method does not apply: a note under the table")


class Difference(Selection):
    """The reason why two defenses rank differently than in the paper, shown if they do.

    It applies to every pair of a defense that matches the variants named here and a defense in ``against``.
    """

    against: tuple[Variant, ...] = Field(
        (),
        description="the other defense of the pair: variants, or none for the undefended victim (empty: any)",
    )

    of: Literal["clean", "triggered"] = Field(
        "triggered", description="the order by the clean metric, or the order by ASR (retrieval: ANR)"
    )
    reason: str = Field(min_length=1, description="the reason, or what is not known about it")

    def explains(self, defense: Scenario, compared: Scenario) -> bool:
        """Whether this applies to the two defenses, in either order."""
        return any(
            self.covers(first) and (not self.against or not set(self.against).isdisjoint(defenses(second) or (NONE,)))
            for first, second in ((defense, compared), (compared, defense))
        )


class PaperTable(Settings):
    """A table of a paper whose values are shown next to the reproduced ones."""

    table: PrintedTableName = Field(description="the paper and its table, as transcribed under report/papers")
    attacks: dict[Variant, str] = Field(
        {},
        description="attack variants that are the paper's, each with its name in the transcribed table; other "
        "attacks are not compared",
    )
    defenses: dict[Variant, str] = Field(
        {},
        description="defense variants that are the paper's but do not have their method's name (ablations), each with "
        "its name in the transcribed table",
    )
    # left out of the JSON if it is empty: experiments that do not name any keep their parameters
    datasets: dict[Variant, str] = Field(
        {},
        exclude_if=lambda names: not names,
        description="data set variants, each with the name of the printed data set that it is compared with; needed "
        "only if the table has several data sets for one task and the variant is none of them",
    )
    rate: Rate | None = Field(None, description="the paper's poison rate (null: the scenario's own)")

    @model_validator(mode="after")
    def _prints_the_datasets(self) -> Self:
        printed = {key.dataset for key, _, _ in tables()[self.table].rows if key.dataset}
        for name in self.datasets.values():
            if name not in printed:
                raise ValueError(f"datasets: {self.table} prints no data set {quoted(name)}{nearest(name, printed)}")
        return self


def _help(names: Iterable[str]) -> str:
    return "; ".join(f"{name}: {PRODUCTS[name].help}" for name in names)


class Experiment(Settings):
    """An experiment to reproduce: grids, and the tables and figures made from them."""

    title: str = Field(description="heading in the report")
    grid: tuple[Grid, ...] = Field(min_length=1, description="grids whose scenarios are combined")
    paper: tuple[PaperTable, ...] = Field((), description="tables of the papers whose values are shown next to ours")
    table: bool = Field(True, description="whether to make the result table")
    tables: tuple[ListingName, ...] = Field((), description=f"further tables. {_help(LISTINGS)}")
    figures: tuple[FigureName, ...] = Field((), description=_help(FIGURES))
    # left out of the JSON if it is empty: experiments without pages keep their parameters
    pages: tuple[WebpageName, ...] = Field(
        (), exclude_if=lambda names: not names, description=f"pages of their own. {_help(WEBPAGES)}"
    )
    swept: str | None = Field(
        None,
        description="numeric setting of the defenses on the x axis of the figure `sweep`, such as unlearning.rate",
    )
    tested: Variant | None = Field(
        None, description="defense variant that the table `significance` compares with every other"
    )
    dashes: tuple[Dash, ...] = Field((), description="scenarios left out because the method does not apply")
    differences: tuple[Difference, ...] = Field(
        (), description="reasons for the table `ordering`; without one, a difference is listed as an open question"
    )

    @model_validator(mode="after")
    def _says_what_products_are_about(self) -> Experiment:
        for name, entry in PRODUCTS.items():
            field = entry.about
            if field and (name in (*self.tables, *self.figures)) != (getattr(self, field) is not None):
                raise ValueError(f"{field} says what {name} is about: write both, or neither")
        if self.differences and "ordering" not in self.tables:
            raise ValueError("differences are reasons for the table ordering: write it under tables, or leave them out")
        return self


def defenses_by_kind(scenario: Scenario) -> dict[str, str]:
    """Names of a scenario's defense variants by their kind, in the order in which they act."""
    names = {kind: scenario.wildcards[kind] for kind in DEFENSES}
    return {kind: name for kind, name in names.items() if name not in (NONE, UNDEFENDED_OBJECTIVE)}


def defenses(scenario: Scenario) -> tuple[str, ...]:
    """Names of a scenario's defense variants, in the order in which they act."""
    return tuple(defenses_by_kind(scenario).values())


def setting(variant: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted setting; None if the variant has no such setting."""
    value: Any = variant
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def swept_values(
    scenario: Scenario, swept: str, variant: Callable[[str, str], Mapping[str, Any]]
) -> Iterator[int | float]:
    """The numbers that the scenario's defenses have as the setting ``swept``.

    ``variant`` returns the settings of a variant, given its section and its name.
    """
    for kind, section in DEFENSES.items():
        name = scenario.wildcards[kind]
        settings = {} if name == NONE else variant(section, name)
        value = setting(settings, swept)
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield value


def rank(scenario: Scenario) -> tuple[int, ...]:
    """For sorting: single defenses first, in the order in which their kinds act, then combinations."""
    order = tuple(DEFENSES)
    used = [order.index(kind) for kind in defenses_by_kind(scenario)]
    return len(used), *used


def cells(experiment: Experiment) -> list[Scenario]:
    """Every scenario of the grids once, in order, including those that are shown as a dash."""
    crossed = (s for grid in experiment.grid for victim in grid.victims() for s in grid.defended(victim))
    return list(dict.fromkeys(crossed))


def dashed(experiment: Experiment, scenario: Scenario) -> bool:
    return any(dash.covers(scenario) for dash in experiment.dashes)


def scenarios(experiment: Experiment) -> list[Scenario]:
    """Every scenario that the experiment runs, once and in order."""
    return [scenario for scenario in cells(experiment) if not dashed(experiment, scenario)]


def triggered(scenarios: Iterable[Scenario]) -> dict[str, dict[str, str]]:
    """For each data set, every attack on it with the attack's first rate.

    The triggered rows are the same for all rates; with the first one, additions to a configuration rerun nothing.
    """
    rates: dict[str, dict[str, str]] = {}
    for scenario in scenarios:
        if scenario.attack != NONE:
            rates.setdefault(scenario.dataset, {}).setdefault(scenario.attack, scenario.rate)
    return rates


def testsets(dataset: str, attack: str, purification: str, triggered: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The names of the test sets on which a scenario is scored: ``clean``, then triggered ones, named by their attacks.

    A poisoned victim is scored on its own triggered set, a benign one on those of all attacks on the same data set. A
    benign victim with a purification is scored only on the clean set, since poisoned victims already show what the
    purification does to triggered inputs.
    """
    if attack != NONE:
        return CLEAN, attack
    return (CLEAN,) if purification != NONE else (CLEAN, *sorted(triggered.get(dataset, ())))
