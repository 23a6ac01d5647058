"""Settings of one experiment, and the scenarios and test sets that it expands to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from codebackdoor.config.base import LARGEST, Settings, worded
from codebackdoor.config.scenario import NAME, NAME_LENGTH, NONE, Scenario, rate_text
from codebackdoor.types import CLEAN

Variant = Annotated[str, Field(pattern=rf"^{NAME}$", max_length=NAME_LENGTH)]


def _no_dust(rate: float) -> float:
    """Refuse a share that no data set has a row for, and whose decimals would fill a file's name."""
    if rate < LEAST_RATE:
        raise ValueError(f"{rate} of no training set is a row; write a larger share")
    return rate


T = TypeVar("T")
LEAST_RATE = 1e-9
Rate = Annotated[float, Field(gt=0, le=1), AfterValidator(_no_dust)]
#: Text too, as Snakemake reads `--config seeds=[21]`; but true is no seed.
Seed = Annotated[int, Field(ge=0, le=LARGEST), BeforeValidator(worded)]
Figure = Literal[
    "defenses",
    "inversion",
    "epochs",
    "suspicion",
    "position",
    "identifiers",
    "sensitivity",
    "tokens",
    "sweep",
    "layers",
    "convergence",
    "noise",
]
Listing = Literal["overview", "ordering", "detection", "inverted_triggers", "times", "significance", "seeds"]
Printed = Literal[
    "elibadcode_table1",
    "elibadcode_table2",
    "elibadcode_table3",
    "elibadcode_table4",
    "elibadcode_table5",
    "elibadcode_table6",
    "elibadcode_table7",
    "elibadcode_table8",
    "elibadcode_table9",
    "codepurify_table2",
    "codepurify_table3",
    "dece_table4",
    "dece_table5",
    "dece_table6",
]


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """Refuse a list in which a value stands twice: what was meant to be another one would be missing."""
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{repeated[0]} stands there twice; write it once")
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
    objectives: tuple[Variant, ...] = Field(("cross_entropy",), min_length=1, description="variants of `objectives`")
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
    def _each_once(cls, value: Any) -> Any:
        return distinct(value) if isinstance(value, tuple) else value

    @property
    def crossed(self) -> int:
        """Combinations that are looked at to find the scenarios."""
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
        found = [replace(victim, **dict(zip(kinds, values, strict=True))) for values in crossed]
        yield from sorted((one for one in found if self.combine == "all" or len(defenses(one)) <= 1), key=rank)


class Selection(Settings):
    """Scenarios: a scenario is meant when it agrees with every value that is given."""

    #: What is given beside a selection, as fields of its subclasses.
    _BESIDE: ClassVar[frozenset[str]] = frozenset({"reason", "of", "against"})

    dataset: Variant | None = Field(None, description="a variant of `datasets`")
    filtering: Variant | None = Field(None, description="a variant of `filterings`")
    objective: Variant | None = Field(None, description="a variant of `objectives`")
    elimination: Variant | None = Field(None, description="a variant of `eliminations`")
    purification: Variant | None = Field(None, description="a variant of `purifications`")

    @property
    def given(self) -> dict[str, str]:
        """The variants that are named, by their kinds."""
        named: dict[str, str] = self.model_dump(exclude_none=True, exclude=set(self._BESIDE))
        return named

    def covers(self, scenario: Scenario) -> bool:
        return all(scenario.wildcards[kind] == value for kind, value in self.given.items())

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.given:
            raise ValueError("an empty selection would mean every scenario; name a data set, a defense, or both")
        return self


class Dash(Selection):
    """Scenarios that the paper leaves out, too: they are not run and their cells show a dash.

    A scenario is meant when it agrees with every value that is given.
    """

    model: Variant | None = Field(None, description="a variant of `models`")
    attack: Variant | None = Field(None, description="a variant of `attacks`")
    reason: str | None = Field(None, description="why the method does not apply: a note under the table")


class Difference(Selection):
    """Why a defense stands elsewhere among the others than in the paper: shown where it does.

    Meant is every pair of defenses of which one agrees with every value that is given, and the other is one of
    ``against``.
    """

    against: tuple[Variant, ...] = Field(
        (),
        description="the others that are meant: variants of defenses, or none: the undefended victim (empty: all)",
    )

    of: Literal["clean", "triggered"] = Field(
        "triggered", description="which order is meant: that of the clean metric, or that of ASR (search: ANR)"
    )
    reason: str = Field(min_length=1, description="the reason, or what is not known of it")

    def explains(self, one: Scenario, other: Scenario) -> bool:
        """Whether the two defenses are a pair that is meant, in either order."""
        return any(
            self.covers(first) and (not self.against or not set(self.against).isdisjoint(defenses(second) or (NONE,)))
            for first, second in ((one, other), (other, one))
        )


class PaperTable(Settings):
    """A table of a paper whose values stand beside the reproduced ones."""

    table: Printed = Field(description="the paper and its table, as transcribed under report/papers")
    attacks: dict[Variant, str] = Field(
        {},
        description="attack variants that are the paper's, each with the name that its transcribed table has for it; "
        "nothing stands beside the others",
    )
    defenses: dict[Variant, str] = Field(
        {},
        description="defense variants that are the paper's without being named like their method (ablations), each "
        "with the name that its transcribed table has for it",
    )
    rate: Rate | None = Field(None, description="the paper's poison rate (null: the scenario's own)")


class Experiment(Settings):
    """What is reproduced: a grid, and the tables and figures that it ends in."""

    #: Kinds of tables and figures that are about one setting or defense, and the field that names it.
    _ABOUT: ClassVar[Mapping[str, str]] = {"sweep": "swept", "significance": "tested"}

    title: str = Field(description="heading in the report")
    grid: tuple[Grid, ...] = Field(min_length=1, description="grids whose scenarios are taken together")
    paper: tuple[PaperTable, ...] = Field((), description="tables of the papers that are shown beside")
    table: bool = Field(True, description="whether the experiment ends in a table")
    tables: tuple[Listing, ...] = Field(
        (),
        description="further tables. overview: flip rate, ASR against floor and clean cost of each defense at once; "
        "ordering: where the defenses stand in another order than in the paper, and why; detection: verdicts of the "
        "label scans, with false positives and negatives; inverted_triggers: distance to the factual trigger; times: "
        "seconds of inversion and unlearning; significance: one defense against the others; seeds: mean, range and "
        "what is left of the backdoor on each seed",
    )
    figures: tuple[Figure, ...] = Field(
        (),
        description="defenses: flip rate, ASR against floor, clean metric; inversion: loss of the trigger search; "
        "epochs: clean metric and ASR while training; suspicion: CodePurify's profile and entropies; position: what a "
        "trigger and a perturbation do at each identifier; identifiers: how many there are, and their lengths; "
        "sensitivity: steps of a search by the sensitivity of its place; tokens: change of the loss by each piece of "
        "an inverted trigger; sweep: metrics over a numeric setting; layers: unlearning of all parameters or the last "
        "layer; convergence: loss of the search by variant; noise: accuracy on rows with pieces that anchoring "
        "drops",
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
    def _names_what_it_is_about(self) -> Experiment:
        for kind, field in self._ABOUT.items():
            if (kind in (*self.tables, *self.figures)) != (getattr(self, field) is not None):
                raise ValueError(f"{field} names what {kind} is about: write both, or neither")
        if self.differences and "ordering" not in self.tables:
            raise ValueError("differences are reasons for the table ordering: write it under tables, or leave them out")
        return self


def defenses(scenario: Scenario) -> tuple[str, ...]:
    """Names of the defense variants on a scenario's path, in the order in which they act."""
    found = [scenario.filtering] if scenario.filtering != NONE else []
    found += [scenario.objective] if scenario.objective != "cross_entropy" else []
    return (*found, *(name for name in (scenario.elimination, scenario.purification) if name != NONE))


def rank(scenario: Scenario) -> tuple[int, ...]:
    """For sorting: single defenses first, in the order in which their kinds act, then combinations."""
    kinds = (scenario.filtering, scenario.objective, scenario.elimination, scenario.purification)
    used = [index for index, name in enumerate(kinds) if name not in (NONE, "cross_entropy")]
    return len(used), *used


def cells(experiment: Experiment) -> list[Scenario]:
    """Every scenario of the grids in order, each once, also those that are shown as a dash."""
    found = (s for grid in experiment.grid for victim in grid.victims() for s in grid.defended(victim))
    return list(dict.fromkeys(found))


def dashed(experiment: Experiment, scenario: Scenario) -> bool:
    return any(dash.covers(scenario) for dash in experiment.dashes)


def scenarios(experiment: Experiment) -> list[Scenario]:
    """Every scenario that the experiment needs run, in order, each once."""
    return [scenario for scenario in cells(experiment) if not dashed(experiment, scenario)]


def triggered(scenarios: Iterable[Scenario]) -> dict[str, dict[str, str]]:
    """By data set, every attack on it and its first rate: the rate does not change what is triggered, and what stands
    further down in a configuration reruns nothing."""
    found: dict[str, dict[str, str]] = {}
    for scenario in scenarios:
        if scenario.attack != NONE:
            found.setdefault(scenario.dataset, {}).setdefault(scenario.attack, scenario.rate)
    return found


def testsets(dataset: str, attack: str, purification: str, triggered: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The test sets on which a scenario is scored: ``clean`` first, then triggered ones by the names of their attacks.

    A poisoned victim reads its own triggered set; a benign one that of every attack on the same data set. What a
    purification does to triggered inputs shows on poisoned victims, so that a benign one then reads the clean set.
    """
    if attack != NONE:
        return CLEAN, attack
    return (CLEAN,) if purification != NONE else (CLEAN, *sorted(triggered.get(dataset, ())))
