"""The test sets that a victim predicts on: the clean one, and triggered ones depending on the kind of victim."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from codebackdoor.config import experiments
from codebackdoor.config.scenario import CONSTRAINTS, NONE
from codebackdoor.config.study import Config
from codebackdoor.dag.paths import Paths, Wildcards, fill, values
from codebackdoor.defenses.purification.settings import measured_first
from codebackdoor.heads import HEADS
from codebackdoor.trials import FILE
from codebackdoor.types import CLEAN

#: Constraint on a wildcard: a variant of a method, not ``none``.
SOME = rf"(?!none\b){CONSTRAINTS['attack']}"


@dataclass(frozen=True, slots=True)
class VictimKind:
    """Victims with the same test sets: a suffix for the name of their rule, and constraints on two wildcards."""

    suffix: str
    dataset: str
    attack: str
    testsets: tuple[str, ...]

    def files(self, *stems: str) -> list[str]:
        return [f"{stem}.{testset}.jsonl" for stem in stems for testset in self.testsets]


#: A poisoned victim predicts on the clean test set and on its own triggered one.
POISONED = VictimKind("", CONSTRAINTS["dataset"], SOME, (CLEAN, "{attack}"))
#: A benign victim predicts only on the clean test set if inputs are purified.
BENIGN_PURIFIED = VictimKind("_benign", CONSTRAINTS["dataset"], NONE, (CLEAN,))


class Testsets:
    """The test sets of every scenario, and their files."""

    def __init__(self, config: Config, paths: Paths) -> None:
        self.config, self.paths = config, paths

    @cached_property
    def triggered(self) -> Mapping[str, Mapping[str, str]]:
        """For each data set, its attacks, each with the rate whose triggered test set is used."""
        return experiments.triggered(self.config.scenarios())

    def of(self, wildcards: Wildcards) -> dict[str, str]:
        """The files of a scenario's test sets."""
        scenario = values(wildcards)
        dataset, attack = scenario["dataset"], scenario["attack"]
        files = {}
        for name in experiments.testsets(dataset, attack, scenario.get("purification", NONE), self.triggered):
            rate = scenario["rate"] if name == attack else self.triggered.get(dataset, {}).get(name, "0")
            triggered = fill(f"{self.paths.poison}/test.jsonl", wildcards, attack=name, rate=rate)
            files[name] = self.paths.data(dataset, "test") if name == CLEAN else triggered
        return files

    def rewritten(self, wildcards: Wildcards) -> dict[str, str]:
        """Rewritten test sets of a scenario whose purification does not look at the victim."""
        pattern = f"{self.paths.rewritten}/purified.jsonl"
        return {
            name: fill(pattern, wildcards, **({"attack": NONE, "rate": "0"} if name == CLEAN else {}))
            for name in self.of(wildcards)
        }

    def victim_kinds(self) -> Iterator[VictimKind]:
        """Poisoned victims, and the benign victims of each data set, which predict on all its triggered test sets."""
        yield POISONED
        for dataset in self.config.datasets:
            testsets = experiments.testsets(dataset, NONE, NONE, self.triggered)
            yield VictimKind(f"_benign_{dataset}", re.escape(dataset), NONE, testsets)

    def datasets(self, has_victims: bool) -> str:
        """Constraint on the wildcard: data sets with their own victims, or those with only test rows."""
        names = [name for name in self.config.datasets if (self.config.home(name) == name) == has_victims]
        return _one_of(map(re.escape, names))

    def has_tests(self, dataset: str) -> bool:
        """Whether outputs for the test rows of a data set are run with tests."""
        settings = self.config.datasets[dataset]
        if not HEADS[settings.head].generates:
            return False
        if settings.path is not None:
            return (settings.path / FILE).is_file()
        return settings.source == "mirror" and settings.published[settings.originals].has_tests

    def purifications(self, reads_victim: bool) -> str:
        """Constraint on the wildcard: the declared variants that look at the victim, or those that do not."""
        purifications = self.config.purifications.items()
        return _one_of(name for name, settings in purifications if settings.reads_victim == reads_victim)

    def filterings(self, reads_victim: bool, is_shared: bool = True) -> str:
        """Constraint on the wildcard: the declared variants that look at a victim, or those that do not.

        ``is_shared``: those whose kept rows serve the victims of all models.
        """
        return _one_of(
            name
            for name, settings in self.config.filterings.items()
            if (settings.reads_victim, settings.is_shared) == (reads_victim, is_shared)
        )

    def trained(self, keeps: bool) -> str:
        """Constraint on the wildcard: the objectives whose victims keep their epochs, or those that do not."""
        return _one_of(
            name
            for name, settings in self.config.objectives.items()
            if settings.taken_checkpoint is None and settings.keeps_epochs == keeps
        )

    @property
    def stopped(self) -> str:
        """Constraint on the wildcard: the objectives whose victims are checkpoints of the undefended training."""
        objectives = self.config.objectives.items()
        return _one_of(name for name, settings in objectives if settings.taken_checkpoint is not None)

    @cached_property
    def measured_first(self) -> Mapping[str, str]:
        """For each purification that keeps evidence, the variant under whose name the evidence is stored."""
        return measured_first(self.config.purifications)

    @property
    def measuring(self) -> str:
        """Constraint on the wildcard: the purifications under whose names evidence is stored."""
        return _one_of(dict.fromkeys(self.measured_first.values()))


def _one_of(names: Iterable[str]) -> str:
    """A pattern that matches the names; without any, it matches nothing."""
    return "|".join(names) or "(?!)"
