"""What makes a table say little: a victim that did not learn its backdoor, a model that answers one label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codebackdoor.config.experiments import defenses, scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.collect import Study, testsets
from codebackdoor.types import CLEAN

_Metrics = Mapping[str, Mapping[str, Any]]


def doubts(study: Study) -> Iterator[str]:
    """A sentence for each scenario and seed that its experiment cannot conclude from."""
    out = Path(study.settings["out"])
    for scenario in scenarios(study.experiment):
        measured = testsets(scenario.results(out) / "metrics.json")
        if scenario.attack != NONE and not defenses(scenario):
            yield from _not_learned(scenario, measured[scenario.attack]["metrics"])
        yield from _one_label(scenario, measured[CLEAN]["metrics"], out)


def _not_learned(scenario: Scenario, metrics: _Metrics) -> Iterator[str]:
    """Where the interval of what the trigger changes reaches to nothing, or beyond."""
    changed, reached, before = ("asr_minus_floor", "asr", "floor")
    if changed not in metrics:
        changed, reached, before = ("anr_drop", "anr", "anr_without")
    low = metrics.get(changed, {}).get("low")
    if low is not None and low <= 0:
        value, floor = (labels.percent(metrics[name]["value"]) for name in (reached, before))
        yield (
            f"{labels.victim(scenario)}: the undefended {labels.METRICS[reached]} ({value} %) is at its floor ({floor} "
            "%): the victim did not learn the backdoor, and no defense can be judged on it. More rows, a higher poison "
            "rate or more epochs may help."
        )


def _one_label(scenario: Scenario, metrics: _Metrics, out: Path) -> Iterator[str]:
    """Where the interval of the accuracy reaches to that of the most frequent label, or below."""
    counts = read_json(out / "data" / scenario.dataset / "card.json")["splits"]["test"].get("labels")
    accuracy = metrics.get("accuracy")
    if not counts or accuracy is None or accuracy["low"] is None:
        return
    share = max(counts.values()) / sum(counts.values())
    if accuracy["low"] <= share:
        yield (
            f"{labels.victim(scenario)}, {labels.column(scenario)}: an accuracy of {labels.percent(accuracy['value'])} "
            f"% on clean rows is that of one class: the same label for every row has {labels.percent(share)} %."
        )
