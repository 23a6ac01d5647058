"""One defense against every other over all victims: an unpaired test, as published, and a paired one.

Reads ``metrics.json`` files. The same tests are applied to the values that the experiment's papers print
(EliBadCode, 5.3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.evaluation.significance import holm, paired, unpaired
from codebackdoor.report import labels, papers
from codebackdoor.report.collect import Results, collect
from codebackdoor.report.study import Study, attacked
from codebackdoor.report.tables.listing import Column, Listing, ListingPart, Value

#: What is tested: the metric of a triggered test set, its name, and a function of its values. For ANR, more is better.
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
_NOTES = (
    "One pair for each victim (data set, model, attack and rate; seeds averaged). Unpaired: two-sided "
    "Wilcoxon-Mann-Whitney test, as published; it ignores that both defenses are tried on the same victims. Paired: "
    "exact two-sided Wilcoxon signed-rank test; Holm: corrected for the number of defenses.",
    "Shift: Hodges-Lehmann estimate of the other defense's value minus the tested one's. Effect: matched-pairs "
    "rank-biserial correlation, 1 if the other defense's value is higher on every victim.",
    "With n pairs, the paired p is at least 2/2^n.",
)
#: Values of two defenses on the same victims.
ValuePairs = Sequence[tuple[float, float]]
#: By measure and defense: the values of the tested defense and of this one.
_ByDefense = Mapping[tuple[str, str], ValuePairs]


def build(study: Study, inputs: Sequence[Path]) -> Listing:
    tested = study.experiment.tested or ""
    name = labels.word(tested)
    rows = tuple(_rows(_measured_pairs(study, collect(study, inputs), tested)))
    parts = [ListingPart("here", f"Here: {name} against the others", _COLUMNS, rows)]
    for table_name in dict.fromkeys(cited.table for cited in study.experiment.paper):
        table = papers.tables()[table_name]
        pairs = _printed_pairs(table, tested)
        if pairs:
            title = f"{name} in {table.paper}, Table {table.number}, as printed"
            parts.append(ListingPart(table_name, title, _COLUMNS, tuple(_rows(pairs))))
    return Listing(f"{study.experiment.title}: significance", tuple(parts), _NOTES)


def _rows(pairs: _ByDefense) -> Iterator[Mapping[str, Value]]:
    """One row for each measure and defense with a pair; p-values are corrected within each measure."""
    for measure, (_, head, _) in _TESTED.items():
        by_defense = {defense: values for (name, defense), values in pairs.items() if name == measure and values}
        tests = [paired(*zip(*values, strict=True)) for values in by_defense.values()]
        adjusted = holm([test.p for test in tests])
        for (defense, values), test, corrected in zip(by_defense.items(), tests, adjusted, strict=True):
            tested, compared = zip(*values, strict=True)
            yield {
                "measure": head,
                "defense": defense,
                "pairs": test.n,
                "tested_mean": mean(tested),
                "other_mean": mean(compared),
                "unpaired_p": unpaired(tested, compared),
                "shift": test.shift,
                "effect": test.effect,
                "paired_p": test.p,
                "holm_p": corrected,
            }


def _measured_pairs(study: Study, results: Results, tested: str) -> _ByDefense:
    """The pairs of values on every victim for which both are defined."""
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for victim, scenarios in _by_victim(study).items():
        reference = next((item for item in scenarios if labels.defense(item) == labels.word(tested)), None)
        compared = [item for item in scenarios[1:] if reference is not None and item != reference]
        for scenario in compared:
            for measure, (metric, _, transform) in _TESTED.items():
                pair = (results.defined(item, victim.attack, metric) for item in (reference, scenario) if item)
                values = [transform(cell.value) for cell in pair if cell is not None]
                if len(values) == 2:
                    pairs.setdefault((measure, labels.column(scenario)), []).append((values[0], values[1]))
    return pairs


def _by_victim(study: Study) -> dict[Scenario, list[Scenario]]:
    """The scenarios of each attacked victim, the undefended one first."""
    by_victim: dict[Scenario, list[Scenario]] = {}
    for scenario in attacked(study.experiment):
        by_victim.setdefault(scenario.undefended(), []).append(scenario)
    return by_victim


def _printed_pairs(table: papers.PrintedTable, tested: str) -> _ByDefense:
    """The pairs of printed values, even of defenses that this run does not include."""
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    printed = {(key, rate): values for key, rate, values in table.rows if key.attack != NONE}
    for (key, rate), values in printed.items():
        reference = printed.get((replace(key, defense=tested), rate), {})
        for measure, (metric, _, transform) in _TESTED.items():
            first, second = reference.get(metric), values.get(metric)
            if key.defense not in (tested, papers.UNDEFENDED_VICTIM) and first is not None and second is not None:
                unit = 100 if table.units[metric] == "%" else 1
                pair = (transform(first / unit), transform(second / unit))
                pairs.setdefault((measure, labels.word(key.defense)), []).append(pair)
    return pairs
