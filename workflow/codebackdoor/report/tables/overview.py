"""Every defense on every attacked victim at a glance: flip rate, ASR minus its floor, and the cost on clean rows.

Reads ``metrics.json`` files. Retrieval has no flip rate; its ANR is shown next to that of the benign victim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from scipy.stats import rankdata

from codebackdoor.config.experiments import cells, dashed, rank
from codebackdoor.config.scenario import Scenario
from codebackdoor.report import labels
from codebackdoor.report.collect import Cell, Results, clean_cost, collect
from codebackdoor.report.study import Study, attacked
from codebackdoor.report.tables.listing import Column, Form, Listing, ListingPart, Marked, Value

#: Returns the cell of a scenario on the triggered test set of an attack; None if it is not measured.
CellOf = Callable[[Study, Results, Scenario, str], Cell | None]
#: The cells of one victim by column: None where a defense does not apply or was not run, a cell without a value where
#: the measure is undefined.
_Row = Mapping[str, Cell | None]
#: The victims that a mean and a rank summarize: a name, the row of each victim, and the columns that apply to them.
_Summarized = tuple[str, Sequence[_Row], Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Measure:
    """One part of the table; defenses are ranked by ``badness`` (lower is better), and ``averaged`` values averaged."""

    name: str
    title: str
    form: Form
    cell: CellOf
    badness: Callable[[float], float]
    benign: bool = False
    averaged: Callable[[float], float] = float


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    results = collect(study, inputs)
    scenarios = attacked(study.experiment)
    seeds = len({scenario.seed for scenario in cells(study.experiment)})
    parts = tuple(part for measure in _MEASURES if (part := _part(study, results, scenarios, measure, seeds)))
    marked = any(isinstance(value, Marked) for part in parts for row in part.rows for value in row.values())
    notes = (
        f"Values in percent, {'of one seed' if seeds == 1 else f'means over {seeds} seeds'}. A good defense has a flip "
        "rate near zero, an ASR at its floor (below it, it taught the opposite backdoor) and no cost on clean rows.",
        "Mean and rank of a task: over its victims on which every applicable defense was run, for the defenses with a "
        f"value on each of them ({labels.NO_FLIP_RATE}). Rank: mean rank among these defenses; 1 is best. ASR − floor "
        "is averaged and ranked by its absolute value, so that an ASR above its floor and one below do not cancel out.",
        *((f"×N after a value: of N seeds, not {seeds}.",) if marked else ()),
        *(
            f"{labels.DASH} ({', '.join(map(labels.word, dash.variants.values()))}): {dash.reason}."
            for dash in study.experiment.dashes
            if dash.reason
        ),
    )
    return Listing(f"{study.experiment.title}: all defenses at a glance", parts, notes)


def _part(
    study: Study, results: Results, scenarios: Sequence[Scenario], measure: _Measure, seeds: int
) -> ListingPart | None:
    """One row for each victim, one column for each defense; None if the measure is not available."""
    by_victim = _cells(study, results, scenarios, measure)
    if not by_victim:
        return None
    columns = {labels.column(scenario): scenario for scenario in scenarios}
    defended = sorted((name for name in columns if name != labels.UNDEFENDED), key=lambda name: rank(columns[name]))
    first = [labels.BENIGN, labels.UNDEFENDED] if measure.benign else [labels.UNDEFENDED]
    names = [name for name in (*first, *defended) if any(name in row for row in by_victim.values())]
    rows: list[Mapping[str, Value]] = [
        {"victim": labels.group(victim), **{name: _value(cell, seeds) for name, cell in row.items()}}
        for victim, row in by_victim.items()
    ]
    for title, members, applicable in _summarized(study, by_victim, names):
        rows.extend(_summary(title, members, applicable, measure))
    heads = (Column("victim", "Victim"), *(Column(name, name, measure.form) for name in names))
    return ListingPart(measure.name, measure.title, heads, tuple(rows))


def _cells(
    study: Study, results: Results, scenarios: Sequence[Scenario], measure: _Measure
) -> dict[Scenario, dict[str, Cell | None]]:
    """Cells by victim and column, without victims that have no value."""
    by_victim: dict[Scenario, dict[str, Cell | None]] = {}
    for scenario in scenarios:
        cell = measure.cell(study, results, scenario, scenario.attack)
        victim = scenario.undefended()
        if cell is not None or dashed(study.experiment, scenario):
            row = by_victim.setdefault(victim, {})
            row[labels.column(scenario)] = cell
            if measure.benign:
                row[labels.BENIGN] = measure.cell(study, results, victim.benign(), scenario.attack)
    return {victim: row for victim, row in by_victim.items() if any(map(_is_defined, row.values()))}


def _is_defined(cell: Cell | None) -> bool:
    return cell is not None and cell.value is not None


def _summarized(study: Study, by_victim: Mapping[Scenario, _Row], names: Sequence[str]) -> Iterator[_Summarized]:
    """The victims of each task and, if several tasks have labels, of all those tasks together."""
    tasks: dict[str, list[_Row]] = {}
    with_labels: dict[str, None] = {}
    for victim, row in by_victim.items():
        task = study.task(victim.dataset)
        if labels.UNDEFENDED in names and not _is_defined(row.get(labels.UNDEFENDED)):
            continue
        tasks.setdefault(task, []).append(row)
        if study.head(victim.dataset).predicts_label:
            with_labels[task] = None
    applicable = {
        task: [name for name in names if any(_is_defined(row.get(name)) for row in members)]
        for task, members in tasks.items()
    }
    for task, members in tasks.items():
        yield labels.word(task), members, applicable[task]
    if len(with_labels) > 1:
        members = [row for task in with_labels for row in tasks[task]]
        shared = [name for name in names if all(name in applicable[task] for task in with_labels)]
        yield "all tasks with labels", members, shared


def _summary(
    title: str, rows: Sequence[_Row], names: Sequence[str], measure: _Measure
) -> Iterator[Mapping[str, Value]]:
    """The mean of each column, and the mean rank of the defenses among them, over the victims that have every column.

    A defense that is undefined on one of them is left out, and not the victim: otherwise, one defense that destroys its
    victims would change the means of all others.
    """
    complete = [row for row in rows if all(row.get(name) is not None for name in names)]
    values: dict[str, list[float]] = {}
    for name in names:
        column = [cell.value for row in complete if (cell := row[name]) is not None and cell.value is not None]
        if column and len(column) == len(complete):
            values[name] = column
    ranked = [name for name in values if name not in (labels.BENIGN, labels.UNDEFENDED)]
    if not ranked:
        return
    victims = f"{len(complete)} victim{'s' * (len(complete) != 1)}"
    means = {name: mean(map(measure.averaged, column)) for name, column in values.items()}
    yield {"victim": f"Mean, {title}, {victims}", **means}
    ranks = rankdata([[measure.badness(value) for value in values[name]] for name in ranked], axis=0).tolist()
    by_name = zip(ranked, ranks, strict=True)
    yield {"victim": f"Rank, {title}", **{name: f"{mean(of_victims):.1f}" for name, of_victims in by_name}}


def _value(cell: Cell | None, seeds: int) -> Value:
    if cell is None or cell.value is None:
        return None
    mark = cell.mark(seeds)
    return Marked(cell.value, mark) if mark else cell.value


def _attacked(metric: str) -> CellOf:
    return lambda _study, results, scenario, attack: results.get(scenario, attack, metric)


def _clean_cost(study: Study, results: Results, scenario: Scenario, _attack: str) -> Cell | None:
    return clean_cost(study, results, scenario)


_MEASURES = (
    _Measure("flip_rate", "Flip rate, %", "percent", _attacked("flip_rate"), lambda value: value),
    _Measure("asr_minus_floor", "ASR − floor, points", "points", _attacked("asr_minus_floor"), abs, averaged=abs),
    _Measure("anr", "ANR, % (retrieval; high is good)", "percent", _attacked("anr"), lambda value: -value, benign=True),
    _Measure(
        "clean_cost",
        "Loss on clean rows, points of the task's clean metric",
        "points",
        _clean_cost,
        lambda value: value,
    ),
)
