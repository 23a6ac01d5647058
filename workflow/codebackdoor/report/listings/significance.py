"""One defense against every other over all victims: the paper's unpaired test, and the paired one (EliBadCode, 5.3.1).

Reads ``metrics.json`` files. The same is computed of what the experiment's papers print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

from codebackdoor.config.experiments import cells
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.evaluation.significance import holm, paired, unpaired
from codebackdoor.report import labels, papers
from codebackdoor.report.collect import Scored, Study, anonymous, collect
from codebackdoor.report.listed import Column, Listed, Part, Value

#: What is tested: of a triggered test set, the metric and what is made of it. Of ANR more is better, else less.
_TESTED: Mapping[str, tuple[str, str, Callable[[float], float]]] = {
    "asr": ("asr", "ASR", float),
    "flip_rate": ("flip_rate", "Flip rate", float),
    "asr_off_floor": ("asr_minus_floor", "|ASR − floor|", abs),
    "anr": ("anr", "ANR", float),
}
_COLUMNS = (
    Column("measure", "Measure"),
    Column("defense", "Against"),
    Column("pairs", "Pairs", "number"),
    Column("tested_mean", "Its mean, %", "percent"),
    Column("other_mean", "The other's, %", "percent"),
    Column("unpaired_p", "Unpaired p", "probability"),
    Column("shift", "Shift, points", "points"),
    Column("effect", "Effect", "number"),
    Column("paired_p", "Paired p", "probability"),
    Column("holm_p", "Paired p, Holm", "probability"),
)
#: Values of two defenses on the same victims.
Pairs = Sequence[tuple[float, float]]


def build(study: Study, inputs: Sequence[Path]) -> Listed:
    name = labels.word(study.experiment.tested or "")
    scored = collect(study, inputs)
    parts = [Part("here", f"Here: {name} against the others", _COLUMNS, tuple(_rows(_ours(study, scored))))]
    parts += [
        Part(table, f"{name} in {found.paper}, Table {found.number}, as printed", _COLUMNS, tuple(_rows(printed)))
        for table, found in _printed(study).items()
        if (printed := _theirs(study, found))
    ]
    said = papers.quoted("elibadcode")["significance"]
    notes = (
        "One pair a victim (data set, model, attack and rate; seeds averaged). Unpaired: Wilcoxon-Mann-Whitney, "
        "two-sided, as published; it ignores that both defenses are tried on the same victims. Paired: Wilcoxon "
        "signed-rank, exact and two-sided; Holm: corrected for the number of defenses.",
        "Shift: Hodges-Lehmann estimate of the other's value minus the tested one's. Effect: matched-pairs "
        "rank-biserial correlation, 1 where the other's value is higher on every victim.",
        f"With n pairs the paired p is at least 2/2^n; the paper ({said['where']}) states p < {said['below']:.4f} "
        f"against {labels.word(said['baseline'])}.",
    )
    return Listed(f"{study.experiment.title}: significance", tuple(parts), notes)


def _rows(found: Mapping[tuple[str, str], Pairs]) -> Iterator[Mapping[str, Value]]:
    """One row a measure and defense that have a pair; correction is within each measure."""
    for measure, (_, head, _) in _TESTED.items():
        own = {defense: pairs for (name, defense), pairs in found.items() if name == measure and pairs}
        tests = [paired(*zip(*pairs, strict=True)) for pairs in own.values()]
        adjusted = holm([one.p for one in tests])
        for (defense, pairs), test, corrected in zip(own.items(), tests, adjusted, strict=True):
            tested, other = zip(*pairs, strict=True)
            yield {
                "measure": head,
                "defense": defense,
                "pairs": test.n,
                "tested_mean": mean(tested),
                "other_mean": mean(other),
                "unpaired_p": unpaired(tested, other),
                "shift": test.shift,
                "effect": test.effect,
                "paired_p": test.p,
                "holm_p": corrected,
            }


def _ours(study: Study, scored: Scored) -> dict[tuple[str, str], Pairs]:
    """By measure and defense, the values of the tested defense and of the other where both are defined."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for victim, own in _by_victim(study).items():
        tested = next((one for one in own if _is(one, study.experiment.tested or "")), None)
        for other in own[1:] if tested else ():
            for measure, (metric, _, made) in _TESTED.items():
                values = [scored.get(one, victim.attack, metric) for one in (tested, other) if one and other != tested]
                known = [made(cell.value) for cell in values if cell is not None and cell.value is not None]
                if len(known) == 2:
                    found.setdefault((measure, labels.column(other)), []).append((known[0], known[1]))
    return dict(found)


def _by_victim(study: Study) -> dict[Scenario, list[Scenario]]:
    """The scenarios of each attacked victim, the undefended one first."""
    found: dict[Scenario, list[Scenario]] = {}
    for one in dict.fromkeys(anonymous(one) for one in cells(study.experiment) if one.attack != NONE):
        found.setdefault(one.undefended(), []).append(one)
    return found


def _is(one: Scenario, tested: str) -> bool:
    """Whether this defense, alone, stands on the scenario's path."""
    return labels.defense(one) == labels.word(tested)


def _printed(study: Study) -> dict[str, papers.Table]:
    return {wanted.table: papers.tables()[wanted.table] for wanted in study.experiment.paper}


def _theirs(study: Study, table: papers.Table) -> dict[tuple[str, str], Pairs]:
    """The same of a printed table: what it prints for both defenses, whether or not it is reproduced here."""
    tested = study.experiment.tested
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    values = {(key, rate): own for key, rate, own in table.rows if key.attack != NONE}
    for (key, rate), own in values.items():
        for measure, (metric, _, made) in _TESTED.items():
            theirs = values.get((papers.Key(key.task, key.model, key.attack, tested or ""), rate), {}).get(metric)
            other = own.get(metric)
            if key.defense not in (tested, papers.UNDEFENDED) and theirs is not None and other is not None:
                unit = 100 if table.units[metric] == "%" else 1
                pair = (made(theirs / unit), made(other / unit))
                found.setdefault((measure, labels.word(key.defense)), []).append(pair)
    return dict(found)
