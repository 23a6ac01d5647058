"""The thresholds of the purifications: calibrated for each victim, or fixed by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codebackdoor.config.experiments import scenarios
from codebackdoor.config.scenario import NONE
from codebackdoor.defenses.purification.settings import PurificationSettings
from codebackdoor.report import labels
from codebackdoor.report.inputs import first_detail
from codebackdoor.report.study import Study, tag
from codebackdoor.types import CLEAN


@dataclass(frozen=True, slots=True)
class Thresholds:
    """``rows``: by victim, the thresholds by column (the defense that ends in the purification)."""

    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...]


def thresholds(study: Study, out: Path) -> Thresholds:
    """Read each threshold from the first row that the purification judged; it is the same for all rows of a victim."""
    rows: dict[str, dict[str, str]] = {}
    meanings: dict[str, str] = {}
    for scenario in scenarios(study.experiment):
        if scenario.purification == NONE:
            continue
        detail = first_detail(scenario.results(out) / f"purified.{CLEAN}.jsonl")
        if "threshold" in detail:
            value = detail["threshold"]
            row = rows.setdefault(labels.victim(scenario), {})
            row[labels.defense(scenario)] = "infinite" if value is None else f"{value:.3f}"
            method = str(tag(study.variant("purifications", scenario.purification)))
            kind = study.settings_class("purifications", scenario.purification)
            assert issubclass(kind, PurificationSettings)
            meanings[method] = kind.threshold_meaning
    notes = tuple(f"{labels.word(method)} {meaning}." for method, meaning in meanings.items() if meaning)
    return Thresholds(tuple(dict.fromkeys(name for row in rows.values() for name in row)), rows, notes)
