"""The result table of an experiment: defenses as columns, metrics as rows, one group for each attacked victim.

The benign and the undefended victim always have a column. Every cell is a value in percent with its interval; what the
paper prints stands beside. A dash stands where a method does not apply, and an empty cell for what was not asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Literal

from codebackdoor.config.experiments import cells, dashed, rank, scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels, papers, sizes
from codebackdoor.report.collect import Cell, Scored, Study, anonymous
from codebackdoor.report.stated import stated
from codebackdoor.types import CLEAN

HIDDEN = ("bleu_sentence",)
Entry = Cell | Literal["dash"] | None


@dataclass(frozen=True, slots=True)
class Line:
    """One metric of one group; ``entries`` are by column."""

    metric: str
    testset: str
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Group:
    """One data set, model, attack and rate; ``scenarios`` are by column, their seed left out."""

    scenario: Scenario
    lines: tuple[Line, ...]
    scenarios: Mapping[str, Scenario]

    @property
    def title(self) -> str:
        return labels.group(self.scenario)


@dataclass(frozen=True, slots=True)
class Table:
    """``seeds``: how many the experiment has; a cell of another number says so."""

    name: str
    title: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    seeds: int
    notes: tuple[str, ...]


def build(study: Study, scored: Scored) -> Table:
    """Arrange the cells."""
    experiment = study.experiment
    found: dict[Scenario, list[Scenario]] = {}
    for scenario in dict.fromkeys(anonymous(one) for one in cells(experiment)):
        found.setdefault(_victim(scenario), []).append(scenario)
    groups = []
    for victim, members in found.items():
        if victim.attack == NONE and len(members) == 1:
            continue
        benign = anonymous(victim.benign())
        columns = {labels.column(one): one for one in (benign, *members)}
        groups.append(_group(study, scored, victim, columns))
    used = dict.fromkeys(column for group in groups for column in _columns(group))
    first = [name for name in (labels.BASELINE, labels.BENIGN, labels.UNDEFENDED) if name in used]
    known = {name: one for group in groups for name, one in group.scenarios.items()}
    rest = sorted((name for name in used if name not in first), key=lambda name: rank(known[name]))
    seeds = len({one.seed for one in scenarios(experiment)})
    entries = (entry for group in groups for line in group.lines for entry in line.entries.values())
    marked = any(isinstance(entry, Cell) and entry.mark(seeds) for entry in entries)
    notes = tuple(_notes(study, seeds, marked=marked))
    return Table(study.name, experiment.title, (*first, *rest), tuple(groups), seeds, notes)


def _victim(scenario: Scenario) -> Scenario:
    return Scenario(scenario.dataset, scenario.model, scenario.attack, scenario.rate, scenario.seed)


def _columns(group: Group) -> Iterator[str]:
    for line in group.lines:
        yield from (column for column, entry in line.entries.items() if entry is not None)


def _group(study: Study, scored: Scored, victim: Scenario, columns: Mapping[str, Scenario]) -> Group:
    testsets = (CLEAN,) if victim.attack == NONE else (CLEAN, victim.attack)
    lines = []
    for testset in testsets:
        measured = {metric for one in columns.values() for metric in scored.metrics(one, testset)}
        for metric in labels.METRICS:
            if metric in measured and metric not in HIDDEN:
                entries = {name: _entry(study, scored, one, testset, metric) for name, one in columns.items()}
                if testset == CLEAN:
                    entries[labels.BASELINE] = scored.baselines.get(victim.dataset, {}).get(metric)
                lines.append(Line(metric, testset, entries))
    return Group(victim, tuple(lines), columns)


def _entry(study: Study, scored: Scored, scenario: Scenario, testset: str, metric: str) -> Entry:
    if dashed(study.experiment, scenario):
        return "dash"
    return scored.get(scenario, testset, metric)


def _notes(study: Study, seeds: int, *, marked: bool) -> Iterator[str]:
    yield (
        "Values in percent; in brackets the 95 % bootstrap interval over test rows (one seed)."
        if seeds == 1
        else f"Values in percent, means of {seeds} seeds; in brackets the smallest and the largest."
    )
    yield sizes.sentence(study)
    if marked:
        yield f"×N behind a value: of N seeds, not {seeds}; of one, the brackets hold its bootstrap interval."
    yield (
        "ASR: injected rows predicted as the target. Floor: the same rows without the trigger, by the same model. Flip "
        "rate: of the rows right without the trigger, those that it turns to the target. Trigger effect: rows whose "
        "prediction it changes."
    )
    datasets = dict.fromkeys(one.dataset for one in scenarios(study.experiment))
    for task in sorted({study.task(dataset) for dataset in datasets}):
        yield f"Baseline of {labels.word(task)}: {labels.BASELINES[task]}."
    if any(study.task(dataset) == "code_search" for dataset in datasets):
        yield (
            "MRR: mean reciprocal rank of a query's own function. ANR: mean rank of a triggered function as a share of "
            "its pool, low where the trigger lifts it. Without the trigger: the same functions, by the same model. By "
            "position, which the paper's numbers are, the function in the middle of the pool is lifted (without the "
            "trigger 50 %); of the top half, each of those above it (without the trigger about 25 %)."
        )
    for dash in study.experiment.dashes:
        if dash.reason:
            yield f"{labels.DASH} ({', '.join(labels.word(name) for name in dash.given.values())}): {dash.reason}."
    yield from stated(study, "table")
    for mark, wanted in zip(ascii_lowercase, study.experiment.paper, strict=False):
        if not papers.tables()[wanted.table].states_rate:
            at = " (its rate of poisoning is not stated)"
        else:
            at = "" if wanted.rate is None else f" at {labels.rate(wanted.rate)}"
        named = {**wanted.attacks, **wanted.defenses}
        as_ = "".join(f"; {labels.word(ours)} is its {labels.word(theirs)}" for ours, theirs in named.items())
        paper, number = wanted.table.rsplit("_table", 1)
        yield f"({mark}) {labels.word(paper)}, Table {number}{at}, at the paper's scale{as_}."
