"""Why a table may be inconclusive.

A victim did not learn its backdoor, a model predicts a single label, or a filter dropped most of the training rows.
"""

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
#: A filter that drops more than this share of the clean rows leaves too few to learn the task, let alone a trigger.
_MOST = 0.5


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
        if scenario.filtering != NONE:
            yield from _few_rows(scenario, out)


def _not_learned(scenario: Scenario, triggered: TriggeredMetrics, metrics: _Metrics) -> Iterator[str]:
    """A sentence if the interval of the trigger's effect includes zero or is below it."""
    low = metrics.get(triggered.change, {}).get("low")
    if low is not None and low <= 0:
        value, floor = (labels.percent(metrics[name]["value"]) for name in (triggered.success, triggered.floor))
        name = labels.METRICS[triggered.success]
        yield (
            f"{labels.victim(scenario)}: the undefended {name} ({value}%) is at its floor ({floor}%): the victim did "
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
            f"{labels.victim(scenario)}, {labels.column(scenario)}: an accuracy of "
            f"{labels.percent(accuracy['value'])}% on clean rows is not clearly above "
            f"the {labels.percent(share)}% of the same label for every row."
        )


def _few_rows(scenario: Scenario, out: Path) -> Iterator[str]:
    """A sentence if the filter dropped most of the clean training rows."""
    folder = scenario.poison(out) / "filtered" / scenario.filtering
    # a filter that looks at the victim's own kind of model has a folder for each
    paths = (path for path in (folder / scenario.model, folder) if (path / "filtering.json").is_file())
    for path in paths:
        rows = read_json(path / "filtering.json")["rows"]
        if rows["clean"]["share"] is not None and rows["clean"]["share"] > _MOST:
            yield (
                f"{labels.victim(scenario)}, {labels.column(scenario)}: the filter dropped "
                f"{labels.percent(rows['clean']['share'])}% of the clean training rows and "
                f"{rows['poisoned']['dropped']} of {rows['poisoned']['there']} poisoned ones. A victim that is trained "
                "on the rest may have learned neither its task nor a trigger."
            )
