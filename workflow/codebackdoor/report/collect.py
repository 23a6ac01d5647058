"""Metrics of finished scenarios as cells: averaged over seeds, with their interval and the printed value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.study import PrintedValue, Study, anonymous, scenario_of
from codebackdoor.types import CLEAN


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one scenario (seed left out) on one test set.

    With one seed, ``low`` and ``high`` are the bootstrap interval; with several, ``value`` is the mean and the interval
    is the range. An undefined value is None. ``n``: rows in the denominator, summed over the seeds. ``seeds``: number
    of seeds that have a value; 0 for a baseline that needs no model.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    seeds: int
    paper: PrintedValue | None = None

    def mark(self, seeds: int) -> str:
        """`` ×2`` for a value of two seeds if the table has a different number of ``seeds``; otherwise empty."""
        return f" ×{self.seeds}" if self.value is not None and self.seeds not in (0, seeds) else ""

    def defined(self) -> DefinedCell | None:
        """The same cell if it has a value."""
        if self.value is None:
            return None
        return DefinedCell(self.value, self.low, self.high, self.n, self.seeds, self.paper)


@dataclass(frozen=True, slots=True)
class DefinedCell(Cell):
    """A cell that has a value, so that none is ever taken for 0."""

    value: float


@dataclass(frozen=True, slots=True)
class Results:
    """All measurements: cells by (scenario with seed 0, test set, metric); baselines by data set and metric."""

    cells: Mapping[tuple[Scenario, str, str], Cell]
    baselines: Mapping[str, Mapping[str, Cell]]

    def get(self, scenario: Scenario, testset: str, metric: str) -> Cell | None:
        return self.cells.get((anonymous(scenario), testset, metric))

    def defined(self, scenario: Scenario, testset: str, metric: str) -> DefinedCell | None:
        """The cell if it has a value."""
        cell = self.get(scenario, testset, metric)
        return None if cell is None else cell.defined()

    def testsets(self, scenario: Scenario) -> tuple[str, ...]:
        key = anonymous(scenario)
        return tuple(dict.fromkeys(testset for measured, testset, _ in self.cells if measured == key))

    def metrics(self, scenario: Scenario, testset: str) -> tuple[str, ...]:
        key = (anonymous(scenario), testset)
        return tuple(metric for *measured, metric in self.cells if tuple(measured) == key)


def testsets(path: Path) -> Mapping[str, Any]:
    """The content of a scenario's ``metrics.json`` by test set."""
    content = read_json(path)
    by_testset = content.get("testsets") if isinstance(content, dict) else None
    if not isinstance(by_testset, dict):
        raise UserError(f"{path}: not a metrics.json of a scenario")
    return by_testset


def collect(study: Study, paths: Iterable[Path]) -> Results:
    """Read ``metrics.json`` files, averaged over seeds, and the ``baseline.json`` of data sets."""
    estimates: dict[tuple[Scenario, str, str], list[Mapping[str, Any]]] = {}
    baselines: dict[str, dict[str, Cell]] = {}
    for path in paths:
        if path.name == "baseline.json":
            baselines.setdefault(path.parent.name, {}).update(_baseline(path))
            continue
        scenario = anonymous(scenario_of(path))
        for testset, measured in testsets(path).items():
            for metric, estimate in measured["metrics"].items():
                estimates.setdefault((scenario, testset, metric), []).append(estimate)
            for metric, estimate in measured.get("copy", {}).items():
                baselines.setdefault(scenario.dataset, {})[metric] = Cell(**estimate, seeds=0)
    cells = {key: _cell(study, *key, of_seeds) for key, of_seeds in estimates.items()}
    return Results(cells, baselines)


def clean_cost(study: Study, results: Results, scenario: Scenario) -> DefinedCell | None:
    """The loss in the task's clean metric due to a defense.

    None for the undefended victim, or if one of the two is not measured.
    """
    metric = study.dataset_class(scenario.dataset).clean_metric
    defended, undefended = (results.defined(item, CLEAN, metric) for item in (scenario, scenario.undefended()))
    if defended is None or undefended is None or scenario == scenario.undefended():
        return None
    cost = undefended.value - defended.value
    return DefinedCell(cost, None, None, defended.n, min(defended.seeds, undefended.seeds))


def _baseline(path: Path) -> dict[str, Cell]:
    return {
        metric: Cell(value, None, None, 0, 0)
        for metric, value in read_json(path).items()
        if metric in labels.CLEAN_METRICS
    }


def _cell(study: Study, scenario: Scenario, testset: str, metric: str, estimates: Sequence[Mapping[str, Any]]) -> Cell:
    defined = [estimate for estimate in estimates if estimate["value"] is not None]
    n, paper = sum(estimate["n"] for estimate in estimates), study.printed(scenario, testset, metric)
    if not defined:
        return Cell(None, None, None, n, 0, paper)
    if len(defined) == 1:
        return Cell(defined[0]["value"], defined[0]["low"], defined[0]["high"], n, 1, paper)
    values = [estimate["value"] for estimate in defined]
    return Cell(sum(values) / len(values), min(values), max(values), n, len(values), paper)
