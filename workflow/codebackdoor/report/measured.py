"""What several figures draw of result files: the measures of a task, and what a trigger search's history says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebackdoor.config.scenario import NONE, Scenario
from codebackdoor.report import labels
from codebackdoor.report.collect import Cell, Scored, Study
from codebackdoor.types import CLEAN

#: A search has succeeded where the loss towards the target is below: a probability of 90 %.
FOUND = 0.1
#: What a tokenizer writes before a piece that begins a word.
_WORD_INITIAL = "Ġ▁"


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric on the clean or the triggered test set; ``floor`` is the one of the same rows without the trigger."""

    metric: str
    triggered: bool
    floor: str | None = None

    @property
    def head(self) -> str:
        return (
            f"{labels.METRICS[self.metric]}, %" if self.triggered else f"{labels.METRICS[self.metric]}, clean rows, %"
        )

    def cell(self, scored: Scored, scenario: Scenario) -> Cell | None:
        return self._of(scored, scenario, self.metric)

    def floor_of(self, scored: Scored, scenario: Scenario) -> Cell | None:
        return self._of(scored, scenario, self.floor) if self.floor else None

    def _of(self, scored: Scored, scenario: Scenario, metric: str) -> Cell | None:
        cell = scored.get(scenario, scenario.attack if self.triggered else CLEAN, metric)
        return None if cell is None or cell.value is None else cell


def measures(task: str) -> tuple[Measure, ...]:
    """What a figure shows of a task: what is left of the backdoor, and the clean metric last."""
    clean = Measure(labels.CLEAN_METRIC[task], triggered=False)
    if task == "code_search":
        return Measure("anr", True, "anr_without"), clean
    return Measure("flip_rate", True), Measure("asr", True, "floor"), clean


def target(study: Study, scenario: Scenario) -> int:
    """The label that the scenario's attack brings about."""
    return int(study.variant("attacks", scenario.attack)["target_label"])


def towards(study: Study, scenario: Scenario, history: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of the searches towards the attack's target, the one with the lowest loss; None of a benign victim or a word."""
    if scenario.attack == NONE:
        return None
    found = [one for one in history["searches"] if one.get("label") == target(study, scenario)]
    return min(found, key=lambda one: min(one["loss"]), default=None)


def steps(losses: Sequence[float]) -> int | None:
    """The first step after which the loss is below ``FOUND``; None where it never is."""
    return next((step for step, loss in enumerate(losses) if loss < FOUND), None)


def setting(variant: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted setting; None where the variant has none of this name."""
    value: Any = variant
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def pieces(tokenizer: Path, texts: Sequence[str]) -> list[list[str]]:
    """The sub-tokens of each text by a ``tokenizer.json``, written alike at the start of a word and within one."""
    from tokenizers import Tokenizer

    read = Tokenizer.from_file(str(tokenizer)).encode_batch(list(texts), add_special_tokens=False)
    return [[token.lstrip(_WORD_INITIAL) for token in one.tokens] for one in read]
