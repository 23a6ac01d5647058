"""Every defense on every attacked victim at a glance: flip rate, ASR against its floor, and the cost on clean rows.

Reads ``metrics.json`` files. Search has no flip rate: of it, the ANR stands beside that of the benign victim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from scipy.stats import rankdata

from codebackdoor.config.experiments import cells, dashed, rank
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels
from codebackdoor.report.collect import Cell, Scored, Study, anonymous, collect
from codebackdoor.report.listed import Column, Form, Listed, Marked, Part, Value
from codebackdoor.types import CLEAN

#: What a scenario has on the triggered test set of an attack; None where it is not measured or undefined.
Measured = Callable[[Study, Scored, Scenario, str], Cell | None]
#: The values of one victim by column.
_Values = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class _Measure:
    """One part: what is shown, by what a defense is ranked (the smaller, the better), and what a mean is taken of."""

    name: str
    title: str
    form: Form
    value: Measured
    badness: Callable[[float], float]
    benign: bool = False
    averaged: Callable[[float], float] = float


def build(study: Study, inputs: Sequence[Path]) -> Listed:
    scored = collect(study, inputs)
    held = list(dict.fromkeys(anonymous(one) for one in cells(study.experiment) if one.attack != NONE))
    seeds = len({one.seed for one in cells(study.experiment)})
    parts = tuple(part for measure in _MEASURES if (part := _part(study, scored, held, measure, seeds)))
    marked = any(isinstance(value, Marked) for part in parts for row in part.rows for value in row.values())
    notes = (
        f"Values in percent, means over {seeds} seed{'s' * (seeds != 1)}. A good defense has a flip rate near zero, an "
        "ASR at its floor (below it, it taught the opposite backdoor) and costs nothing on clean rows.",
        "Mean and rank of a task: over its victims on which every defense that applies to the task is measured. Rank: "
        "mean place among these defenses; 1 is best. ASR − floor is averaged and ranked by its size, so that an ASR "
        "above its floor and one below do not cancel out.",
        *((f"×N behind a value: of N seeds, not {seeds}.",) if marked else ()),
        *(
            f"{labels.DASH} ({', '.join(labels.word(name) for name in one.given.values())}): {one.reason}."
            for one in study.experiment.dashes
            if one.reason
        ),
    )
    return Listed(f"{study.experiment.title}: all defenses at a glance", parts, notes)


def _part(study: Study, scored: Scored, held: Sequence[Scenario], measure: _Measure, seeds: int) -> Part | None:
    """One row a victim, one column a defense; None where nothing of the kind is measured."""
    found: dict[Scenario, dict[str, Cell | None]] = {}
    for one in held:
        cell = measure.value(study, scored, one, one.attack)
        victim = one.undefended()
        if cell is not None or dashed(study.experiment, one):
            found.setdefault(victim, {})[labels.column(one)] = cell
            if measure.benign:
                found[victim][labels.BENIGN] = measure.value(study, scored, victim.benign(), one.attack)
    # of a victim that has no such measure, a dash would say that it has
    found = {victim: own for victim, own in found.items() if any(one is not None for one in own.values())}
    if not found:
        return None
    known = {labels.column(one): one for one in held}
    rest = sorted((name for name in known if name != labels.UNDEFENDED), key=lambda name: rank(known[name]))
    first = [labels.BENIGN, labels.UNDEFENDED] if measure.benign else [labels.UNDEFENDED]
    names = [name for name in (*first, *rest) if any(name in own for own in found.values())]
    rows: list[Mapping[str, Value]] = [
        {"victim": labels.group(victim), **{name: _shown(cell, seeds) for name, cell in own.items()}}
        for victim, own in found.items()
    ]
    values = {
        victim: {name: None if cell is None else cell.value for name, cell in own.items()}
        for victim, own in found.items()
    }
    for head, members, applying in _together(study, values, names):
        rows.extend(_summary(head, members, applying, rest, measure))
    columns = (Column("victim", "Victim"), *(Column(name, name, measure.form) for name in names))
    return Part(measure.name, measure.title, columns, tuple(rows))


#: What is summed up together: a head, the values of the victims, and the columns that apply to all of them.
_Together = tuple[str, Sequence[_Values], Sequence[str]]


def _together(study: Study, values: Mapping[Scenario, _Values], names: Sequence[str]) -> Iterator[_Together]:
    """The victims of each task, and those of all tasks with labels where there are several."""
    tasks: dict[str, list[_Values]] = {}
    for victim, own in values.items():
        tasks.setdefault(study.task(victim.dataset), []).append(own)
    applying = {
        task: [name for name in names if any(own.get(name) is not None for own in members)]
        for task, members in tasks.items()
    }
    for task, members in tasks.items():
        yield labels.word(task), members, applying[task]
    labelled = [task for task in tasks if task in labels.LABELLED]
    if len(labelled) > 1:
        members = [own for task in labelled for own in tasks[task]]
        yield (
            "all tasks with labels",
            members,
            [name for name in names if all(name in applying[one] for one in labelled)],
        )


def _summary(
    head: str, values: Sequence[_Values], names: Sequence[str], rest: Sequence[str], measure: _Measure
) -> Iterator[Mapping[str, Value]]:
    """The mean over the victims on which every column has a value, and the mean rank of the defenses there."""
    ranked = [name for name in rest if name in names]
    whole = [own for own in values if all(own.get(name) is not None for name in names)]
    if not whole or not ranked:
        return
    victims = f"{len(whole)} victim{'s' * (len(whole) != 1)}"
    means = {name: mean(measure.averaged(own[name] or 0.0) for own in whole) for name in names}
    yield {"victim": f"Mean, {head}, {victims}", **means}
    places = [rankdata([measure.badness(own[name] or 0.0) for name in ranked]).tolist() for own in whole]
    own_ranks = zip(ranked, zip(*places, strict=True), strict=True)
    yield {"victim": f"Rank, {head}", **{name: f"{mean(own):.1f}" for name, own in own_ranks}}


def _shown(cell: Cell | None, seeds: int) -> Value:
    if cell is None or cell.value is None:
        return None
    mark = cell.mark(seeds)
    return Marked(cell.value, mark) if mark else cell.value


def _attacked(metric: str) -> Measured:
    return lambda _study, scored, one, attack: _defined(scored, one, attack, metric)


def _cost(study: Study, scored: Scored, one: Scenario, _attack: str) -> Cell | None:
    metric = labels.CLEAN_METRIC[study.task(one.dataset)]
    own, undefended = (_defined(scored, scenario, CLEAN, metric) for scenario in (one, one.undefended()))
    if own is None or undefended is None or own.value is None or undefended.value is None or one == one.undefended():
        return None
    return Cell(undefended.value - own.value, None, None, own.n, min(own.seeds, undefended.seeds))


def _defined(scored: Scored, one: Scenario, testset: str, metric: str) -> Cell | None:
    cell = scored.get(one, testset, metric)
    return None if cell is None or cell.value is None else cell


_MEASURES = (
    _Measure("flip_rate", "Flip rate, %", "percent", _attacked("flip_rate"), lambda value: value),
    _Measure("asr_minus_floor", "ASR − floor, points", "points", _attacked("asr_minus_floor"), abs, averaged=abs),
    _Measure("anr", "ANR, % (search; high is good)", "percent", _attacked("anr"), lambda value: -value, benign=True),
    _Measure(
        "clean_cost", "Loss on clean rows, points of the task's clean metric", "points", _cost, lambda value: value
    ),
)
