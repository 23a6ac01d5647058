"""Metrics of finished scenarios as cells: averaged over seeds, with their interval and the paper's value beside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from codebackdoor.config.experiments import Experiment, PaperTable, defenses, scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.config.study import DEFENSES
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels, papers
from codebackdoor.types import CLEAN


@dataclass(frozen=True, slots=True)
class Printed:
    """A paper's value, where it stands, and the letter by which the table's notes name that place."""

    value: float
    source: str
    mark: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one scenario (seed left out) on one test set.

    With one seed, ``low`` and ``high`` are the bootstrap interval; with several, ``value`` is their mean and the
    interval reaches from the smallest to the largest. A value that is undefined is None. ``n``: rows in the
    denominator, summed over the seeds. ``seeds``: how many have a value; 0 for what needs no model.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    seeds: int
    paper: Printed | None = None

    def mark(self, seeds: int) -> str:
        """`` ×2`` behind a value of two seeds in a table of ``seeds`` others; empty where they are as many."""
        return f" ×{self.seeds}" if self.value is not None and self.seeds not in (0, seeds) else ""


@dataclass(frozen=True, slots=True)
class Study:
    """The settings of a run as JSON, and one of its experiments."""

    settings: Mapping[str, Any]
    name: str

    @property
    def experiment(self) -> Experiment:
        return Experiment.model_validate(self.settings["experiments"][self.name])

    def variant(self, section: str, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.settings[section][name]
        return found

    def task(self, dataset: str) -> str:
        return str(self.variant("datasets", dataset)["task"])

    def printed(
        self, scenario: Scenario, testset: str, metric: str, instead: Mapping[str, str] | None = None
    ) -> Printed | None:
        """The first value that a table of the experiment's papers prints for this metric.

        ``instead`` renames the paper's defense before it is looked up.
        """
        for mark, wanted in zip(ascii_lowercase, self.experiment.paper, strict=False):
            key = self.key(scenario, wanted, testset)
            if key is not None and instead:
                key = replace(key, defense=instead.get(key.defense, key.defense))
            table = papers.tables()[wanted.table]
            own = float(scenario.rate)
            rate = wanted.rate if wanted.rate is not None and scenario.attack != NONE else own
            value = None if key is None else table.value(key, rate, metric)
            if value is not None:
                at = "" if rate == own or not table.states_rate else f" at {labels.rate(rate)}"
                return Printed(value, f"{table.paper}, Table {table.number}{at}", mark)
        return None

    def key(self, scenario: Scenario, wanted: PaperTable, testset: str) -> papers.Key | None:
        """What the paper would call this scenario; None where a variant is not the one that its method is known by."""
        if testset not in (CLEAN, scenario.attack):
            return None
        used = {kind: getattr(scenario, kind) for kind in DEFENSES if getattr(scenario, kind) in defenses(scenario)}
        names = []
        for kind, name in used.items():
            method = str(self.variant(DEFENSES[kind], name)["method"])
            theirs = wanted.defenses.get(name, method if name == method else None)
            if theirs is None:
                return None
            names.append(theirs)
        attack = NONE if scenario.attack == NONE else wanted.attacks.get(scenario.attack)
        if attack is None:
            return None
        return papers.Key(
            task=self.task(scenario.dataset),
            model=str(self.variant("models", scenario.model)["architecture"]),
            attack=attack,
            defense="+".join(names) or papers.UNDEFENDED,
        )


@dataclass(frozen=True, slots=True)
class Scored:
    """Everything measured: cells by (scenario with seed 0, test set, metric); baselines by data set and metric."""

    cells: Mapping[tuple[Scenario, str, str], Cell]
    baselines: Mapping[str, Mapping[str, Cell]]

    def get(self, scenario: Scenario, testset: str, metric: str) -> Cell | None:
        return self.cells.get((anonymous(scenario), testset, metric))

    def testsets(self, scenario: Scenario) -> tuple[str, ...]:
        wanted = anonymous(scenario)
        return tuple(dict.fromkeys(testset for own, testset, _ in self.cells if own == wanted))

    def metrics(self, scenario: Scenario, testset: str) -> tuple[str, ...]:
        wanted = (anonymous(scenario), testset)
        return tuple(metric for own, at, metric in self.cells if (own, at) == wanted)


def anonymous(scenario: Scenario) -> Scenario:
    """The scenario without its seed: what is averaged over seeds has the same."""
    return replace(scenario, seed="0")


def scenario_of(path: Path) -> Scenario:
    """The scenario whose folder holds the file, read off its path; a model's folder has no purification."""
    parts = path.parent.parts
    seed = next((at for at in (len(parts) - 5, len(parts) - 4) if at > 2 and re.fullmatch(r"seed[0-9]+", parts[at])), 0)
    if not seed:
        raise UserError(f"{path}: not in the folder of a scenario; name files where a run has left them")
    dataset, model, poison = parts[seed - 3 : seed]
    attack, _, rate = poison.rpartition("-")
    kinds = [field.name for field in fields(Scenario)][5:]
    rest = dict(zip(kinds, parts[seed + 1 :], strict=False))
    return Scenario(dataset, model, attack, rate, parts[seed].removeprefix("seed"), **rest)


def testsets(path: Path) -> Mapping[str, Any]:
    """What a scenario's ``metrics.json`` says of each test set."""
    found = read_json(path)
    known = found.get("testsets") if isinstance(found, dict) else None
    if not isinstance(known, dict):
        raise UserError(f"{path}: not a metrics.json of a scenario")
    return known


def collect(study: Study, paths: Iterable[Path]) -> Scored:
    """Read ``metrics.json`` files, averaged over seeds, and the ``baseline.json`` of data sets."""
    found: dict[tuple[Scenario, str, str], list[Mapping[str, Any]]] = {}
    modelless: dict[str, dict[str, Cell]] = {}
    for path in paths:
        if path.name == "baseline.json":
            modelless.setdefault(path.parent.name, {}).update(_baseline(path))
            continue
        scenario = anonymous(scenario_of(path))
        for testset, own in testsets(path).items():
            for metric, estimate in own["metrics"].items():
                found.setdefault((scenario, testset, metric), []).append(estimate)
            for metric, estimate in own.get("copy", {}).items():
                modelless.setdefault(scenario.dataset, {})[metric] = Cell(**estimate, seeds=0)
    cells = {key: _cell(study, *key, estimates) for key, estimates in found.items()}
    return Scored(cells, modelless)


def subset(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The part of a run's settings that an experiment uses: what its table and figures are made anew for."""
    held = scenarios(Experiment.model_validate(settings["experiments"][name]))
    used = {}
    for kind, section in {"dataset": "datasets", "model": "models", "attack": "attacks", **DEFENSES}.items():
        variants = sorted({getattr(one, kind) for one in held} - {NONE})
        used[section] = {variant: settings[section][variant] for variant in variants}
    return {"out": settings["out"], **used, "experiments": {name: settings["experiments"][name]}}


def _baseline(path: Path) -> dict[str, Cell]:
    return {
        metric: Cell(value, None, None, 0, 0)
        for metric, value in read_json(path).items()
        if metric in labels.CLEAN_METRICS
    }


def _cell(study: Study, scenario: Scenario, testset: str, metric: str, estimates: Sequence[Mapping[str, Any]]) -> Cell:
    known = [one for one in estimates if one["value"] is not None]
    n, paper = sum(one["n"] for one in estimates), study.printed(scenario, testset, metric)
    if not known:
        return Cell(None, None, None, n, 0, paper)
    if len(known) == 1:
        return Cell(known[0]["value"], known[0]["low"], known[0]["high"], n, 1, paper)
    values = [one["value"] for one in known]
    return Cell(sum(values) / len(values), min(values), max(values), n, len(values), paper)
