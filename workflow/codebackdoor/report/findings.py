"""The findings of a run in at most six sentences, computed from its numbers for any methods and tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from codebackdoor.config.experiments import defenses, defenses_by_kind, scenarios
from codebackdoor.config.products import inputs
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels, scan
from codebackdoor.report.collect import DefinedCell, Results, collect
from codebackdoor.report.study import Study, anonymous
from codebackdoor.types import CLEAN

#: Beginnings of the sentences about each kind of defense.
_KINDS = {
    "filtering": "Filtering training rows leaves",
    "objective": "Training with another loss leaves",
    "elimination": "Editing the victim leaves",
    "purification": "Rewriting inputs leaves",
}
#: Maximum number of variants of a kind, and of wrong verdicts, that are named.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result of one defense of one attacked victim: the remaining backdoor, and the gain in the clean metric."""

    scenario: Scenario
    effect: str
    left: DefinedCell
    clean_metric: str
    gain: float | None


def findings(studies: Sequence[Study]) -> list[str]:
    """Sentences on the undefended and the benign victims, on each kind of defense, and on the verdicts of the scans."""
    outcomes: dict[Scenario, _Outcome] = {}
    benign: dict[tuple[Scenario, str], tuple[str, DefinedCell]] = {}
    for study in studies:
        results = collect(study, inputs(study.experiment, "overview", study.settings["out"]))
        outcomes |= {outcome.scenario: outcome for outcome in _outcomes(study, results)}
        benign |= _benign(study, results)
    effects = [outcome.effect for outcome in outcomes.values()]
    if not effects:
        return []
    # tasks measure the effect of a trigger differently: report the measure of most victims
    effect = max(dict.fromkeys(effects), key=effects.count)
    comparable = [outcome for outcome in outcomes.values() if outcome.effect == effect]
    under_triggers = [cell for name, cell in benign.values() if name == effect]
    by_kind = [*_by_kind(comparable, effect)]
    if by_kind:
        by_kind[-1] += " (Points: change against the undefended victim.)"
    return [*_undefended(comparable, effect, under_triggers), *by_kind, *_verdicts(studies)]


def _outcomes(study: Study, results: Results) -> Iterator[_Outcome]:
    for scenario in dict.fromkeys(map(anonymous, scenarios(study.experiment))):
        effect = study.head(scenario.dataset).triggered.effect
        left = None if scenario.attack == NONE else results.defined(scenario, scenario.attack, effect)
        if left is not None:
            metric = study.dataset_class(scenario.dataset).clean_metric
            values = [results.defined(item, CLEAN, metric) for item in (scenario, scenario.undefended())]
            defended, undefended = (None if cell is None else cell.value for cell in values)
            gain = None if defended is None or undefended is None else defended - undefended
            yield _Outcome(scenario, effect, left, metric, gain)


def _benign(study: Study, results: Results) -> dict[tuple[Scenario, str], tuple[str, DefinedCell]]:
    """The effect of every attack's trigger on the benign victims, by victim and attack."""
    attacked = {anonymous(item) for item in scenarios(study.experiment) if item.attack != NONE}
    cells = {}
    for victim, attack in {(scenario.undefended().benign(), scenario.attack) for scenario in attacked}:
        effect = study.head(victim.dataset).triggered.effect
        cell = results.defined(victim, attack, effect)
        if cell is not None:
            cells[victim, attack] = (effect, cell)
    return cells


def _undefended(outcomes: Sequence[_Outcome], effect: str, benign: Sequence[DefinedCell]) -> Iterator[str]:
    undefended = [outcome.left for outcome in outcomes if not defenses(outcome.scenario)]
    if undefended:
        sentence = f"Undefended: {_name(effect)} of {_range(undefended)}% on {_victims(undefended)}."
        if benign:
            sentence += f" The same triggers have {_range(benign)}% on benign victims, which are not backdoored."
        yield sentence


def _by_kind(outcomes: Sequence[_Outcome], effect: str) -> Iterator[str]:
    """A sentence for each kind of defense, with its variants by number of victims, then by their mean effect."""
    kinds: dict[str, dict[str, list[_Outcome]]] = {}
    for outcome in outcomes:
        kind = _single_kind(outcome.scenario)
        if kind is not None:
            kinds.setdefault(kind, {}).setdefault(labels.defense(outcome.scenario), []).append(outcome)
    for kind in (kind for kind in _KINDS if kind in kinds):
        variants = sorted(kinds[kind].items(), key=lambda variant: (-len(variant[1]), _mean_left(variant[1])))
        texts = [_variant(name, of_variant) for name, of_variant in variants[:_SHOWN]]
        others = [outcome.left for _, of_variant in variants[_SHOWN:] for outcome in of_variant]
        more = len(variants) - len(texts)
        also = f"; {_range(others)}% with {more} more (fewer victims, or more left on average)" if more else ""
        yield f"{_KINDS[kind]} {_name(effect)} of: {'; '.join(texts)}{also}."


def _mean_left(outcomes: Sequence[_Outcome]) -> float:
    """A value below 0 counts as 0: a defense that overshoots is no better than one that leaves nothing."""
    return mean(max(outcome.left.value, 0.0) for outcome in outcomes)


def _single_kind(scenario: Scenario) -> str | None:
    """The kind of a scenario's defense; None without one, and for combinations."""
    kinds = list(defenses_by_kind(scenario))
    return kinds[0] if len(kinds) == 1 else None


def _variant(name: str, outcomes: Sequence[_Outcome]) -> str:
    remaining = [outcome.left for outcome in outcomes]
    gains = [outcome.gain for outcome in outcomes if outcome.gain is not None]
    metrics = {_lowered(labels.METRICS[outcome.clean_metric]) for outcome in outcomes}
    metric = metrics.pop() if len(metrics) == 1 else "clean metric"
    change = ""
    if gains:
        points = _ends(labels.points(min(gains)), labels.points(max(gains)))
        change = f", {metric} {points} points"
    return f"{_range(remaining)}% with {name} ({_victims(remaining)}{change})"


def _verdicts(studies: Sequence[Study]) -> Iterator[str]:
    verdicts: dict[tuple[str, str], scan.ScanVerdict] = {}
    for study in studies:
        of_study = scan.verdicts(study, Path(study.settings["out"]))
        verdicts |= {(verdict.victim, verdict.defense): verdict for verdict in of_study if verdict.right is not None}
    if not verdicts:
        return
    wrong = [
        f"{verdict.defense} says {verdict.verdict} for {verdict.victim} (truth: {verdict.truth})"
        for verdict in verdicts.values()
        if not verdict.right
    ]
    sentence = f"Label scans: {len(verdicts) - len(wrong)} of {len(verdicts)} verdicts are right"
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        sentence += f". Wrong: {'; '.join(wrong[:_SHOWN])}{more}"
    not_removed = sum(bool(verdict.right) and not verdict.is_removed for verdict in verdicts.values())
    if not_removed:
        sentence += (
            f". After {not_removed} right verdict{'s' * (not_removed > 1)}, a flip rate above "
            f"{labels.rate(scan.REMOVED)} remains"
        )
    yield f"{sentence}."


def _name(effect: str) -> str:
    return f"{'an' if effect[0] in 'aeiou' else 'a'} {_lowered(labels.METRICS[effect])}"


def _lowered(name: str) -> str:
    """A metric's name within a sentence: ``flip rate``, but ``ANR drop``."""
    return name if name[:2].isupper() else name.lower()


def _victims(cells: Iterable[DefinedCell]) -> str:
    number = sum(cell.seeds for cell in cells)
    return f"{number} victim{'s' * (number != 1)}"


def _range(cells: Iterable[DefinedCell]) -> str:
    """The range of the values of all victims and seeds."""
    ends: list[float] = []
    for cell in cells:
        # with a single seed, low and high are those of the bootstrap interval
        ends += (end for end in ((cell.low, cell.high) if cell.seeds > 1 else (cell.value,)) if end is not None)
    return _ends(labels.percent(min(ends)), labels.percent(max(ends)))


def _ends(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
