"""Two runs side by side: which scenarios differ, by how much, and which setting or code was another.

What may have changed a number is read off the files that a run keeps beside its outputs: cards of data sets, manifests
of attacks, and the ``provenance.json`` of every job that runs a model.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.errors import UserError
from codebackdoor.files import read_json

#: A test set and a metric on it.
Measure = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of one scenario in both runs; None where it is undefined."""

    testset: str
    metric: str
    before: float | None
    after: float | None

    def __str__(self) -> str:
        both = (_number(self.before), _number(self.after))
        difference = ""
        if self.before is not None and self.after is not None:
            difference = f" ({self.after - self.before:+.4f})"
        return f"{self.testset} {self.metric}: {both[0]} -> {both[1]}{difference}"


@dataclass(frozen=True, slots=True)
class Difference:
    """A scenario whose metrics differ, and what was another, stage by stage."""

    scenario: Scenario
    changes: tuple[Change, ...]
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    only_before: tuple[Scenario, ...]
    only_after: tuple[Scenario, ...]
    equal: int
    different: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        return not (self.only_before or self.only_after or self.different)


def compare(before: Path, after: Path) -> Comparison:
    """Compare two finished runs, given by their folders (``out`` of their configuration).

    Raises UserError where a folder holds no ``results/metrics.csv``.
    """
    one, other = _metrics(before), _metrics(after)
    shared = [scenario for scenario in one if scenario in other]
    different = []
    for scenario in shared:
        changes = tuple(_changes(one[scenario], other[scenario]))
        if changes:
            different.append(Difference(scenario, changes, tuple(_causes(scenario, before, after))))
    return Comparison(
        tuple(scenario for scenario in one if scenario not in other),
        tuple(scenario for scenario in other if scenario not in one),
        len(shared) - len(different),
        tuple(different),
    )


def as_text(found: Comparison, before: Path, after: Path) -> str:
    lines = [f"{found.equal} scenarios are equal in every metric, {len(found.different)} differ"]
    for only, run in ((found.only_before, before), (found.only_after, after)):
        lines += [f"only in {run}: {_name(scenario)}" for scenario in only]
    for one in found.different:
        lines += ["", _name(one.scenario), *(f"  {change}" for change in one.changes)]
        causes = one.causes or ("nothing that is recorded: look at versions and devices in provenance.json",)
        lines += [f"  because: {cause}" for cause in causes]
    return "\n".join(lines)


def _metrics(run: Path) -> dict[Scenario, dict[Measure, float | None]]:
    path = run / "results/metrics.csv"
    if not path.is_file():
        raise UserError(f"{path}: no such file; name the folder of a finished run, as `out` in its configuration")
    kinds = [field.name for field in fields(Scenario)]
    found: dict[Scenario, dict[Measure, float | None]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            scenario = Scenario(**{kind: row[kind] for kind in kinds})
            value = float(row["value"]) if row["value"] else None
            found.setdefault(scenario, {})[row["testset"], row["metric"]] = value
    return found


def _changes(one: Mapping[Measure, float | None], other: Mapping[Measure, float | None]) -> Iterator[Change]:
    for measure in dict.fromkeys((*one, *other)):
        if one.get(measure) != other.get(measure):
            yield Change(*measure, one.get(measure), other.get(measure))


def _causes(scenario: Scenario, before: Path, after: Path) -> Iterator[str]:
    """What stands otherwise in the records of this scenario's jobs, first stage first."""
    for path, other in zip(_records(scenario, before), _records(scenario, after), strict=True):
        (job, one), (_, two) = _facts(path), _facts(other)
        for key, old, new in _unequal(one, two):
            yield f"{job}: {key} {old} -> {new}"


def _records(scenario: Scenario, run: Path) -> Iterator[Path]:
    yield run / "data" / scenario.dataset / "card.json"
    if scenario.attack != NONE:
        yield scenario.poison(run) / "manifest.json"
    for folder in scenario.folders(run):
        yield folder / "provenance.json"


def _facts(path: Path) -> tuple[str, dict[str, Any]]:
    """The job that wrote a record, and what of it may change a number."""
    content = read_json(path) if path.is_file() else {}
    job = content.get("stage") or {"card.json": "dataset", "manifest.json": "poison"}.get(path.name, "job")
    return job, {key: content.get(key) for key in ("settings", "code", "versions")}


def _unequal(one: object, other: object, key: str = "") -> Iterator[tuple[str, object, object]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in dict.fromkeys((*one, *other)):
            yield from _unequal(one.get(name), other.get(name), f"{key}.{name}" if key else str(name))
    elif one != other:
        yield key, one, other


def _name(scenario: Scenario) -> str:
    return scenario.results("").as_posix().removeprefix("/").removeprefix("results/")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
