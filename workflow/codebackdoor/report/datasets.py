"""The data sets of a study: one row each with the most important facts, and the whole card for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebackdoor.config.experiments import scenarios
from codebackdoor.files import read_json
from codebackdoor.report import labels
from codebackdoor.report.study import Study

COUNTED_SPLITS = ("train", "valid", "test", "clean")


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """``duplicates``: near-duplicates across splits, None if they were not counted. ``facts``: the whole card."""

    name: str
    task: str
    language: str
    source: str
    rows: tuple[str, ...]
    classes: str
    tokens: str
    duplicates: int | None
    facts: tuple[tuple[str, str], ...]


def datasets(studies: Iterable[Study], out: Path) -> list[DatasetRow]:
    """A row for each data set of the studies; cards of an earlier configuration in the same folder are ignored."""
    settings = {scenario.dataset: study for study in studies for scenario in scenarios(study.experiment)}
    return [_row(study, name, read_json(out / "data" / name / "card.json")) for name, study in sorted(settings.items())]


def _row(study: Study, name: str, card: Mapping[str, Any]) -> DatasetRow:
    splits, settings = card["splits"], study.variant("datasets", name)
    train = splits["train"]
    return DatasetRow(
        name=labels.word(name),
        task=labels.word(study.task(name)),
        language=str(settings.get("language", labels.DASH)),
        source=str(settings.get("source", labels.DASH)),
        rows=tuple(f"{splits[split]['rows']}" for split in COUNTED_SPLITS),
        classes=_classes(train.get("labels", {})),
        tokens=_tokens(train.get("code_tokens") or train.get("query_tokens", {})),
        duplicates=card.get("groups_with_a_duplicate_in_another_split"),
        facts=tuple(_flat(card)),
    )


def _classes(counts: Mapping[str, int]) -> str:
    """``0: 50.0%, 1: 50.0%``."""
    total = sum(counts.values())
    shares = (f"{label}: {labels.percent(count / total)}%" for label, count in counts.items())
    return ", ".join(shares) or labels.DASH


def _tokens(lengths: Mapping[str, float]) -> str:
    return f"{lengths['median']:g} / {lengths['p95']:g}" if lengths else labels.DASH


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The card as pairs of a name and a value."""
    if isinstance(value, Mapping):
        for key, nested in value.items():
            yield from _flat(nested, f"{prefix} › {key}" if prefix else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield prefix, ", ".join(map(str, value))
    else:
        yield prefix, f"{value:g}" if isinstance(value, float) else str(value)
