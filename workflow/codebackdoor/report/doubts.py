"""Why a table may be inconclusive: a victim that did not learn its backdoor, a model that predicts a single label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codebackdoor.config.experiments import defenses, scenarios
from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.files import read_json
from codebackdoor.heads import TriggeredMetrics
from codebackdoor.report import labels
from codebackdoor.report.collect import testsets
from codebackdoor.report.study import Study
from codebackdoor.types import CLEAN

_Metrics = Mapping[str, Mapping[str, Any]]


def doubts(study: Study) -> Iterator[str]:
    """A sentence for each scenario and seed that allows no conclusion.

    In an unfinished run, only finished scenarios are checked.
    """
    out = Path(study.settings["out"])
    for scenario in scenarios(study.experiment):
        path = scenario.results(out) / "metrics.json"
        if not path.is_file():
            continue
        measured = testsets(path)
        if scenario.attack != NONE and not defenses(scenario):
            metrics = measured[scenario.attack]["metrics"]
            yield from _not_learned(scenario, study.head(scenario.dataset).triggered, metrics)
        yield from _single_label(scenario, measured[CLEAN]["metrics"], out)


def _not_learned(scenario: Scenario, triggered: TriggeredMetrics, metrics: _Metrics) -> Iterator[str]:
    """A sentence if the interval of the trigger's effect includes zero or is below it."""
    low = metrics.get(triggered.change, {}).get("low")
    if low is not None and low <= 0:
        value, floor = (labels.percent(metrics[name]["value"]) for name in (triggered.success, triggered.floor))
        name = labels.METRICS[triggered.success]
        yield (
            f"{labels.victim(scenario)}: the undefended {name} ({value} %) is at its floor ({floor} %): the victim did "
            "not learn the backdoor, and no defense can be judged on it. More rows, a higher poison rate or more "
            "epochs may help."
        )


def _single_label(scenario: Scenario, metrics: _Metrics, out: Path) -> Iterator[str]:
    """A sentence if the interval of the accuracy includes the share of the most frequent label or is below it."""
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
