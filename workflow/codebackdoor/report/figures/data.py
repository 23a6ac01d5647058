"""Data that several figures draw: the metrics of a victim, and the history of a trigger search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels
from codebackdoor.report.collect import DefinedCell, Results
from codebackdoor.report.study import Study
from codebackdoor.types import CLEAN

#: A search succeeds when the loss towards the target falls below this value, a probability of 90%.
SUCCESS = 0.1
#: Characters with which tokenizers mark a token that begins a word.
_WORD_INITIAL = "Ġ▁"


@dataclass(frozen=True, slots=True)
class PlottedMetric:
    """A metric on the clean or the triggered test set; ``floor`` is the metric of the same rows without the trigger."""

    metric: str
    triggered: bool
    floor: str | None = None

    @property
    def axis(self) -> str:
        return f"{labels.METRICS[self.metric]}{'' if self.triggered else ', clean rows'}, %"

    def cell(self, results: Results, scenario: Scenario) -> DefinedCell | None:
        return results.defined(scenario, scenario.attack if self.triggered else CLEAN, self.metric)

    def floor_cell(self, results: Results, scenario: Scenario) -> DefinedCell | None:
        return results.defined(scenario, scenario.attack, self.floor) if self.floor else None


def plotted_metrics(study: Study, dataset: str) -> tuple[PlottedMetric, ...]:
    """The metrics of the remaining backdoor, then the clean metric."""
    triggered = study.head(dataset).triggered
    success = PlottedMetric(triggered.success, True, triggered.floor)
    clean = PlottedMetric(study.dataset_class(dataset).clean_metric, triggered=False)
    if triggered.effect == triggered.change:
        # success and its floor already show the effect
        return success, clean
    return PlottedMetric(triggered.effect, True), success, clean


def target(study: Study, scenario: Scenario) -> int:
    """The target label of the scenario's attack."""
    return int(study.variant("attacks", scenario.attack)["target_label"])


def best_search(study: Study, scenario: Scenario, history: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The search towards the attack's target with the lowest loss; None for benign victims and for target words."""
    if scenario.attack == NONE:
        return None
    searches = [search for search in history["searches"] if search.get("label") == target(study, scenario)]
    return min(searches, key=lambda search: min(search["loss"]), default=None)


def steps(losses: Sequence[float]) -> int | None:
    """The first step after which the loss is below ``SUCCESS``; None if there is none."""
    return next((step for step, loss in enumerate(losses) if loss < SUCCESS), None)


def tokens_of(tokenizer: Path, texts: Sequence[str]) -> list[list[str]]:
    """The tokens of each text by a ``tokenizer.json``, without marks of the beginning of a word."""
    from tokenizers import Tokenizer

    encodings = Tokenizer.from_file(str(tokenizer)).encode_batch(list(texts), add_special_tokens=False)
    return [[token.lstrip(_WORD_INITIAL) for token in encoding.tokens] for encoding in encodings]
