"""Comparison of two runs: which scenarios differ, by how much, and which settings or code differ.

The causes are in the records that a run keeps next to its outputs: the ``provenance.json`` of every job, from the
corpus to the score, and the cards of data sets, which list their sources.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebackdoor.config.scenario import Scenario
from codebackdoor.errors import UserError
from codebackdoor.files import read_object
from codebackdoor.report.metrics import read_metrics

#: A test set and a metric on it.
TestsetMetric = tuple[str, str]

CARD = "card.json"
#: Keys of a ``provenance.json`` that may affect results, like the device; times, memory, host and commit do not.
_FACTS = ("stage", "settings", "seed", "code", "read", "archives", "versions", "python", "threads")


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of one scenario in both runs; None if it is undefined."""

    testset: str
    metric: str
    before: float | None
    after: float | None

    def __str__(self) -> str:
        values = (_number(self.before), _number(self.after))
        difference = ""
        if self.before is not None and self.after is not None:
            difference = f" ({self.after - self.before:+.4f})"
        return f"{self.testset} {self.metric}: {values[0]} -> {values[1]}{difference}"


@dataclass(frozen=True, slots=True)
class ScenarioDifference:
    """A scenario whose metrics differ, and the differences between its jobs, stage by stage."""

    scenario: Scenario
    changes: tuple[Change, ...]
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    only_before: tuple[Scenario, ...]
    only_after: tuple[Scenario, ...]
    equal: int
    different: tuple[ScenarioDifference, ...]

    @property
    def same(self) -> bool:
        return not (self.only_before or self.only_after or self.different)


def compare(before: Path, after: Path) -> Comparison:
    """Compare two finished runs, given by their folders (``out`` of their configuration).

    Raises UserError if a folder has no ``results/metrics.csv``.
    """
    metrics_before, metrics_after = _metrics(before), _metrics(after)
    shared = [scenario for scenario in metrics_before if scenario in metrics_after]
    different = []
    for scenario in shared:
        changes = tuple(_changes(metrics_before[scenario], metrics_after[scenario]))
        if changes:
            different.append(ScenarioDifference(scenario, changes, tuple(_causes(scenario, changes, before, after))))
    return Comparison(
        tuple(scenario for scenario in metrics_before if scenario not in metrics_after),
        tuple(scenario for scenario in metrics_after if scenario not in metrics_before),
        len(shared) - len(different),
        tuple(different),
    )


def as_text(comparison: Comparison, before: Path, after: Path) -> str:
    lines = [f"{comparison.equal} scenarios are equal in every metric, {len(comparison.different)} differ"]
    for scenarios, run in ((comparison.only_before, before), (comparison.only_after, after)):
        lines += [f"only in {run}: {_name(scenario)}" for scenario in scenarios]
    for difference in comparison.different:
        lines += ["", _name(difference.scenario), *(f"  {change}" for change in difference.changes)]
        causes = difference.causes or ("nothing that is recorded",)
        lines += [f"  because: {cause}" for cause in causes]
    return "\n".join(lines)


def _metrics(run: Path) -> dict[Scenario, dict[TestsetMetric, float | None]]:
    metrics: dict[Scenario, dict[TestsetMetric, float | None]] = {}
    for metric in read_metrics(run):
        metrics.setdefault(metric.scenario, {})[metric.testset, metric.name] = metric.value
    if not metrics:
        raise UserError(f"{run}/results/metrics.csv: holds no metric of any scenario")
    return metrics


def _changes(
    before: Mapping[TestsetMetric, float | None], after: Mapping[TestsetMetric, float | None]
) -> Iterator[Change]:
    for metric in dict.fromkeys((*before, *after)):
        if before.get(metric) != after.get(metric):
            yield Change(*metric, before.get(metric), after.get(metric))


def _causes(scenario: Scenario, changes: Iterable[Change], before: Path, after: Path) -> Iterator[str]:
    """The differences between the records of this scenario's jobs, in the order of the stages."""
    for path in _records(scenario, {change.testset for change in changes}, before, after):
        facts_before, facts_after = _facts(before / path), _facts(after / path)
        if facts_before is None or facts_after is None:
            if facts_before != facts_after:
                yield f"{path}: only in {before if facts_after is None else after}"
            continue
        for key, old, new in _unequal(facts_before, facts_after):
            yield f"{facts_before['stage']}: {key} {_short(old)} -> {_short(new)}"


def _records(scenario: Scenario, testsets: Collection[str], *runs: Path) -> list[Path]:
    """Paths of the records of a scenario's jobs, relative to a run; some may not exist."""
    card = Path("data", scenario.dataset, CARD)
    mined = any("corpus.jsonl" in (_facts(run / card) or {}).get("read", {}) for run in runs)
    folders = [Path("corpus")] if mined else []
    # a benign victim is scored on the test sets of every attack
    triggered = {path.relative_to(run) for run in runs for name in testsets for path in _triggered(scenario, name, run)}
    data, *jobs = scenario.folders(".")
    folders += [data, *sorted(triggered - {data, *jobs}), *jobs]
    return [*(folder / "provenance.json" for folder in folders), card]


def _triggered(scenario: Scenario, attack: str, run: Path) -> Iterator[Path]:
    return run.glob(f"data/{scenario.dataset}/{attack}-*/seed{scenario.seed}")


def _facts(path: Path) -> dict[str, Any] | None:
    """The facts in a record that may affect results, with the job's stage; None if there is no record."""
    if not path.is_file():
        return None
    content = read_object(path)
    if path.name == CARD:
        return {"stage": "dataset"} | {key: content.get(key) for key in ("read", "tokenizer_sha256")}
    device = content.get("device")
    device = device.get("name") if isinstance(device, dict) else device
    return {"stage": "job"} | {key: content[key] for key in _FACTS if key in content} | {"device": device}


def _short(value: object) -> object:
    """A checksum shortened to its first digits; other values unchanged."""
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value


def _unequal(before: object, after: object, key: str = "") -> Iterator[tuple[str, object, object]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys((*before, *after)):
            yield from _unequal(before.get(name), after.get(name), f"{key}.{name}" if key else str(name))
    elif before != after:
        yield key, before, after


def _name(scenario: Scenario) -> str:
    return scenario.results("").as_posix().removeprefix("/").removeprefix("results/")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
