"""The result table of an experiment: defenses as columns, metrics as rows, one group for each attacked victim.

The benign and the undefended victim always have a column. Every cell is a value in percent with its interval, next to
the value that a paper prints. A dash means that a method does not apply, an empty cell that it was not run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Literal

from codebackdoor.config.experiments import cells, dashed, rank, scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels, papers, sizes
from codebackdoor.report.collect import Cell, DefinedCell, Results
from codebackdoor.report.study import Study, anonymous
from codebackdoor.types import CLEAN

#: Metrics that only ``metrics.json`` and exported tables contain.
HIDDEN = ("bleu_sentence", "tpr_at_fpr_1", "tpr_at_fpr_5")
Entry = Cell | Literal["dash"] | None


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric of one group; ``entries`` are by column."""

    metric: str
    testset: str
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class VictimGroup:
    """One data set, model, attack and rate; ``scenarios`` are by column, without their seeds."""

    scenario: Scenario
    lines: tuple[MetricRow, ...]
    scenarios: Mapping[str, Scenario]

    @property
    def title(self) -> str:
        return labels.group(self.scenario)

    def cell(self, column: str, metric: str) -> DefinedCell | None:
        """The value of a metric in a column: on the clean test set for a clean metric, else under the attack.

        None if there is no such value.
        """
        testset = CLEAN if metric in labels.CLEAN_METRICS else self.scenario.attack
        for line in self.lines:
            entry = line.entries.get(column)
            if (line.metric, line.testset) == (metric, testset) and isinstance(entry, Cell):
                return entry.defined()
        return None


@dataclass(frozen=True, slots=True)
class ResultTable:
    """``seeds``: the experiment's number of seeds; cells with a different number are marked."""

    name: str
    title: str
    columns: tuple[str, ...]
    groups: tuple[VictimGroup, ...]
    seeds: int
    notes: tuple[str, ...]

    @property
    def attacked(self) -> tuple[VictimGroup, ...]:
        """The groups of victims that were attacked."""
        return tuple(group for group in self.groups if group.scenario.attack != NONE)


def by_model(groups: Iterable[VictimGroup]) -> list[list[VictimGroup]]:
    """The groups of each data set and model, which have the same metrics."""
    grouped: dict[tuple[str, str], list[VictimGroup]] = {}
    for group in groups:
        grouped.setdefault((group.scenario.dataset, group.scenario.model), []).append(group)
    return list(grouped.values())


def build(study: Study, results: Results) -> ResultTable:
    """Arrange the cells."""
    experiment = study.experiment
    by_victim: dict[Scenario, list[Scenario]] = {}
    for scenario in dict.fromkeys(map(anonymous, cells(experiment))):
        by_victim.setdefault(_victim(scenario), []).append(scenario)
    groups = []
    for victim, members in by_victim.items():
        if victim.attack == NONE and len(members) == 1:
            continue
        benign = anonymous(victim.benign())
        columns = {labels.column(scenario): scenario for scenario in (benign, *members)}
        groups.append(_group(study, results, victim, columns))
    used = dict.fromkeys(column for group in groups for column in _columns(group))
    first = [name for name in (labels.BASELINE, labels.BENIGN, labels.UNDEFENDED) if name in used]
    defended = {name: scenario for group in groups for name, scenario in group.scenarios.items()}
    last = sorted((name for name in used if name not in first), key=lambda name: rank(defended[name]))
    seeds = len({scenario.seed for scenario in scenarios(experiment)})
    entries = [entry for group in groups for line in group.lines for entry in line.entries.values()]
    marked = any(isinstance(entry, Cell) and entry.mark(seeds) for entry in entries)
    undefined = any(isinstance(entry, Cell) and entry.value is None for entry in entries)
    notes = tuple(_notes(study, seeds, marked=marked, undefined=undefined))
    return ResultTable(study.name, experiment.title, (*first, *last), tuple(groups), seeds, notes)


def _victim(scenario: Scenario) -> Scenario:
    return Scenario(scenario.dataset, scenario.model, scenario.attack, scenario.rate, scenario.seed)


def _columns(group: VictimGroup) -> Iterator[str]:
    for line in group.lines:
        yield from (column for column, entry in line.entries.items() if entry is not None)


def _group(study: Study, results: Results, victim: Scenario, columns: Mapping[str, Scenario]) -> VictimGroup:
    testsets = (CLEAN,) if victim.attack == NONE else (CLEAN, victim.attack)
    lines = []
    for testset in testsets:
        measured = {metric for scenario in columns.values() for metric in results.metrics(scenario, testset)}
        for metric in labels.METRICS:
            if metric in measured and metric not in HIDDEN:
                entries = {
                    column: _entry(study, results, scenario, testset, metric) for column, scenario in columns.items()
                }
                if testset == CLEAN:
                    entries[labels.BASELINE] = results.baselines.get(victim.dataset, {}).get(metric)
                lines.append(MetricRow(metric, testset, entries))
    return VictimGroup(victim, tuple(lines), columns)


def _entry(study: Study, results: Results, scenario: Scenario, testset: str, metric: str) -> Entry:
    if dashed(study.experiment, scenario):
        return "dash"
    return results.get(scenario, testset, metric)


def _notes(study: Study, seeds: int, *, marked: bool, undefined: bool) -> Iterator[str]:
    yield (
        "Values in percent; in brackets the 95% bootstrap interval over test rows (one seed)."
        if seeds == 1
        else f"Values in percent, means of {seeds} seeds; in brackets the smallest and the largest."
    )
    yield sizes.sentence(study)
    if marked:
        yield f"×N after a value: of N seeds, not {seeds}; of one seed, the brackets hold its bootstrap interval."
    yield (
        "ASR: share of the rows with an injected trigger that the model predicts as the target. Floor: the same rate "
        "without the trigger, that is, how often the model predicts the target by mistake. Flip rate: share of the "
        "rows predicted correctly without the trigger that the trigger turns to the target. Trigger effect: share of "
        "the rows whose prediction the trigger changes."
    )
    datasets = dict.fromkeys(scenario.dataset for scenario in scenarios(study.experiment))
    for task, baseline in sorted({study.task(name): study.dataset_class(name).baseline for name in datasets}.items()):
        yield f"Baseline of {labels.word(task)}: {baseline}."
    yield from dict.fromkeys(note for dataset in datasets for note in study.head(dataset).notes)
    if undefined:
        yield f"{labels.DASH}: undefined, for example because {labels.NO_FLIP_RATE}."
    for dash in study.experiment.dashes:
        if dash.reason:
            yield f"{labels.DASH} ({', '.join(map(labels.word, dash.variants.values()))}): {dash.reason}."
    yield from study.sentences("table")
    yield from _sources(study)


def _sources(study: Study) -> Iterator[str]:
    """Notes on the printed tables, which the letters after values refer to."""
    for mark, cited in zip(ascii_lowercase, study.experiment.paper, strict=False):
        table = papers.tables()[cited.table]
        if not table.states_rate:
            at = " (the paper does not state the poison rate)"
        else:
            at = "" if cited.rate is None else f" at {labels.rate(cited.rate)}"
        names = {**cited.attacks, **cited.defenses}
        words = {labels.word(our): labels.word(their) for our, their in names.items()}
        aliases = "".join(f"; {our} is its {their}" for our, their in words.items() if our != their)
        yield f"({mark}) {table.paper}, Table {table.number}{at}, on the paper's data and at its scale{aliases}."
