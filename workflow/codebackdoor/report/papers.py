"""The papers' tables as data, and the value that stands beside a reproduced one.

Values are transcribed as printed; ``units`` says whether a metric is in percent. A dash in the paper is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from codebackdoor.config.experiments import Experiment
from codebackdoor.files import read_json

_FOLDER = Path(__file__).parent / "papers"
PAPERS = ("elibadcode", "codepurify", "dece")
UNDEFENDED = "undefended"


@dataclass(frozen=True, slots=True)
class Key:
    """What one printed value is about; attack, defense and model are the names of methods and architectures."""

    task: str
    model: str
    attack: str
    defense: str


@dataclass(frozen=True, slots=True)
class Table:
    """One printed table."""

    name: str
    paper: str
    number: str
    title: str
    citation: str
    notes: tuple[str, ...]
    units: Mapping[str, str]
    rows: tuple[tuple[Key, float | None, Mapping[str, float | None]], ...]

    @property
    def states_rate(self) -> bool:
        """Whether the paper says at which rate the rows of this table were poisoned."""
        return all(rate is not None for _, rate, _ in self.rows)

    def value(self, key: Key, rate: float, metric: str) -> float | None:
        """The printed value in [0, 1]; None where the table has none, a dash, or more than one (other data sets).

        Where the paper states no rate, the row holds for every rate, and what is made of it says so (``states_rate``).
        """
        found = [values.get(metric) for own, at, values in self.rows if own == key and at in (None, rate)]
        if len(found) != 1 or found[0] is None:
            return None
        return round(found[0] / 100, 6) if self.units[metric] == "%" else found[0]


@cache
def tables() -> Mapping[str, Table]:
    """Every transcribed table by its name, such as ``elibadcode_table1``."""
    return {table.name: table for paper in PAPERS for table in _read(paper)}


def quoted(paper: str) -> Mapping[str, Any]:
    """What a paper states in its text or shows in a figure, by what it is about."""
    found: Mapping[str, Any] = _content(paper)["quoted"]
    return found


def their_name(experiment: Experiment, defense: str) -> str:
    """What the paper calls one of our variants, where the experiment says so; else the variant's own name."""
    named = {ours: theirs for wanted in experiment.paper for ours, theirs in wanted.defenses.items()}
    return named.get(defense, defense)


@cache
def _content(paper: str) -> Any:
    return read_json(_FOLDER / f"{paper}.json")


def _read(paper: str) -> list[Table]:
    data = _content(paper)
    return [
        Table(
            name=f"{paper}_{name}",
            paper=data["paper"],
            number=name.removeprefix("table"),
            title=table["title"],
            citation=data["citation"],
            notes=tuple(table["notes"]),
            units=table["units"],
            rows=tuple(_row(row) for row in table["rows"]),
        )
        for name, table in data["tables"].items()
    ]


def _row(row: list[Any]) -> tuple[Key, float | None, Mapping[str, float | None]]:
    task, _dataset, model, attack, rate, defense, values = row
    return Key(task, model, attack, defense), rate, values
