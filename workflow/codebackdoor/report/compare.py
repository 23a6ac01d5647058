"""Two runs side by side: which scenarios differ, by how much, and which setting or code was another.

What may have changed a number is read off the files that a run keeps beside its outputs: the ``provenance.json`` of
every job from the corpus to the score, and the cards of data sets, which say what they were made from.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from codebackdoor.config.scenario import CONSTRAINTS, NAME, Scenario
from codebackdoor.errors import UserError, shown
from codebackdoor.files import read_object, read_text

#: A test set and a metric on it.
Measure = tuple[str, str]

CARD = "card.json"
#: What of a ``provenance.json`` may change a number, beside the device. Times, memory, host and commit do not.
_FACTS = ("stage", "settings", "seed", "code", "read", "archives", "versions", "python", "threads")


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
            different.append(Difference(scenario, changes, tuple(_causes(scenario, changes, before, after))))
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
        causes = one.causes or ("nothing that is recorded",)
        lines += [f"  because: {cause}" for cause in causes]
    return "\n".join(lines)


def _metrics(run: Path) -> dict[Scenario, dict[Measure, float | None]]:
    path = run / "results/metrics.csv"
    if not path.is_file():
        raise UserError(f"{path}: no such file; name the folder of a finished run, as `out` in its configuration")
    kinds = [field.name for field in fields(Scenario)]
    found: dict[Scenario, dict[Measure, float | None]] = {}
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(read_text(path))), 2):
            scenario, measure, value = _row(row, kinds, f"{path}:{number}")
            found.setdefault(scenario, {})[measure] = value
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); have the run make it again") from None
    if not found:
        raise UserError(f"{path}: holds no metric of any scenario")
    return found


def _row(row: Mapping[str, str | None], kinds: Iterable[str], where: str) -> tuple[Scenario, Measure, float | None]:
    names = {kind: row.get(kind) or "" for kind in kinds}
    testset, metric, text = (row.get(column) for column in ("testset", "metric", "value"))
    # names stand in paths, and a test set in the pattern of one
    fitting = all(re.fullmatch(CONSTRAINTS[kind], name) for kind, name in names.items())
    if not fitting or not testset or not re.fullmatch(NAME, testset) or not metric or text is None:
        raise UserError(f"{where}: not a row of the metrics of a run; have the run make it again")
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise UserError(f"{where}: the value {shown(text)} is no number; have the run make it again")
    return Scenario(**names), (testset, metric), value


def _changes(one: Mapping[Measure, float | None], other: Mapping[Measure, float | None]) -> Iterator[Change]:
    for measure in dict.fromkeys((*one, *other)):
        if one.get(measure) != other.get(measure):
            yield Change(*measure, one.get(measure), other.get(measure))


def _causes(scenario: Scenario, changes: Iterable[Change], before: Path, after: Path) -> Iterator[str]:
    """What stands otherwise in the records of this scenario's jobs, first stage first."""
    for place in _records(scenario, {change.testset for change in changes}, before, after):
        one, two = _facts(before / place), _facts(after / place)
        if one is None or two is None:
            if one != two:
                yield f"{place}: only in {before if two is None else after}"
            continue
        for key, old, new in _unequal(one, two):
            yield f"{one['stage']}: {key} {_short(old)} -> {_short(new)}"


def _records(scenario: Scenario, testsets: Collection[str], *runs: Path) -> list[Path]:
    """Where the records of a scenario's jobs lie below a run; not all of them need to be there."""
    card = Path("data", scenario.dataset, CARD)
    mined = any("corpus.jsonl" in (_facts(run / card) or {}).get("read", {}) for run in runs)
    folders = [Path("corpus")] if mined else []
    # a benign victim is asked on the test sets of every attack
    others = {place.relative_to(run) for run in runs for name in testsets for place in _triggered(scenario, name, run)}
    own = scenario.folders(".")
    folders += [own[0], *sorted(others - set(own)), *own[1:]]
    return [*(folder / "provenance.json" for folder in folders), card]


def _triggered(scenario: Scenario, attack: str, run: Path) -> Iterator[Path]:
    return run.glob(f"data/{scenario.dataset}/{attack}-*/seed{scenario.seed}")


def _facts(path: Path) -> dict[str, Any] | None:
    """The job that wrote a record, and what of it may change a number; None where there is no record."""
    if not path.is_file():
        return None
    content = read_object(path)
    if path.name == CARD:
        return {"stage": "dataset"} | {key: content.get(key) for key in ("read", "tokenizer_sha256")}
    device = content.get("device")
    device = device.get("name") if isinstance(device, dict) else device
    return {"stage": "job"} | {key: content[key] for key in _FACTS if key in content} | {"device": device}


def _short(value: object) -> object:
    """A checksum by its first digits."""
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value


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
