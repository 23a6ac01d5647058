"""The thresholds of the purifications: calibrated for each victim, or fixed by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codebackdoor.config.base import models_in, tag_of
from codebackdoor.config.experiments import scenarios
from codebackdoor.config.methods import AnyPurification
from codebackdoor.config.scenario import NONE
from codebackdoor.defenses.purification.settings import PurificationSettings
from codebackdoor.report import labels
from codebackdoor.report.collect import Study
from codebackdoor.report.shown import first_detail
from codebackdoor.types import CLEAN

#: What each method does beyond its threshold.
MEANING = {
    tag_of(kind): kind.threshold_meaning
    for kind in models_in(AnyPurification)
    if issubclass(kind, PurificationSettings) and kind.threshold_meaning
}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """``rows`` are by victim, the values in them by column: the defense that ends in the purification."""

    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...]


def thresholds(study: Study, out: Path) -> Thresholds:
    """Read each off the first row that the purification judged; it is the same for all rows of a victim."""
    rows: dict[str, dict[str, str]] = {}
    methods: dict[str, None] = {}
    for scenario in scenarios(study.experiment):
        if scenario.purification == NONE:
            continue
        detail = first_detail(scenario.results(out) / f"purified.{CLEAN}.jsonl")
        if "threshold" in detail:
            value = detail["threshold"]
            own = rows.setdefault(labels.victim(scenario), {})
            own[labels.defense(scenario)] = "infinite" if value is None else f"{value:.3f}"
            methods[str(study.variant("purifications", scenario.purification)["method"])] = None
    notes = tuple(f"{labels.word(method)} {MEANING[method]}." for method in methods if method in MEANING)
    return Thresholds(tuple(dict.fromkeys(name for own in rows.values() for name in own)), rows, notes)
