"""Read the results of a finished run: every metric of every scenario, with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError, nearest
from codebackdoor.report.metrics import KINDS, Metric, read_metrics


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
            if key not in KINDS:
                raise UserError(f"a scenario has no {key!r}{nearest(key, KINDS)}")
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
    return Run(Path(folder), tuple(read_metrics(Path(folder))))
