"""Read the results of a finished run: every metric of every scenario, with its interval."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError, nearest

_KINDS = tuple(field.name for field in fields(Scenario))


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one scenario on one test set, with its 95 % bootstrap interval.

    Shares are in [0, 1]. ``value`` is None if the metric is undefined; ``rows`` is its denominator.
    """

    scenario: Scenario
    testset: str
    name: str
    value: float | None
    low: float | None
    high: float | None
    rows: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder and its metrics, ordered by the scenarios' paths."""

    folder: Path
    metrics: tuple[Metric, ...]

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        return tuple(dict.fromkeys(metric.scenario for metric in self.metrics))

    def select(self, name: str | None = None, testset: str | None = None, **wildcards: str) -> Iterator[Metric]:
        """Select metrics by name, test set, and values of scenarios, such as ``attack="badcode", seed="1"``.

        Raises UserError for a keyword that no scenario has.
        """
        for key in wildcards:
            if key not in _KINDS:
                raise UserError(f"a scenario has no {key!r}{nearest(key, _KINDS)}")
        for metric in self.metrics:
            if name not in (None, metric.name) or testset not in (None, metric.testset):
                continue
            if all(getattr(metric.scenario, key) == value for key, value in wildcards.items()):
                yield metric

    def victim(self, scenario: Scenario) -> Path:
        """Folder of the model that the scenario predicts with, in transformers' format."""
        return scenario.victim(self.folder)


def load_run(folder: str | Path) -> Run:
    """Read the metrics of the run in ``folder`` (such as ``runs/local``); UserError if there are none."""
    path = Path(folder) / "results" / "metrics.csv"
    if not path.is_file():
        raise UserError(f"{path}: not found; name the folder of a finished run, such as runs/local")
    columns = [*_KINDS, "testset", "metric", "value", "low", "high", "n"]
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != columns:
            raise UserError(f"{path}: not the metrics of a run: its columns are not {', '.join(columns)}")
        try:
            metrics = tuple(_metric(row) for row in reader)
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}:{reader.line_num}: a damaged row ({error})") from None
    return Run(Path(folder), metrics)


def _metric(row: dict[str, str]) -> Metric:
    value, low, high = (float(row[key]) if row[key] else None for key in ("value", "low", "high"))
    scenario = Scenario(**{kind: row[kind] for kind in _KINDS})
    return Metric(scenario, row["testset"], row["metric"], value, low, high, int(row["n"]))
