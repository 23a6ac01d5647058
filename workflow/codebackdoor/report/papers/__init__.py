"""The papers as data: printed tables and statements in the text, one ``NAME.json`` in this folder for each paper.

A file holds the paper's ``reference``, its ``tables`` with values as printed, its ``statements``, and its ``claims``.
In a table, ``units`` says whether a column is in percent, ``metrics`` maps a column to our metric with the same
definition if the names differ, and null is a dash in the paper. To add a paper or a table, write its JSON file: the
configuration then accepts its name, ``PAPER_tableN``. Nothing heavy is imported here, because the configuration imports
this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codebackdoor.config.base import Reference
from codebackdoor.files import read_json

if TYPE_CHECKING:
    from codebackdoor.config.experiments import Experiment

_FOLDER = Path(__file__).parent
UNDEFENDED_VICTIM = "undefended"


@dataclass(frozen=True, slots=True)
class Key:
    """What a printed value refers to.

    ``dataset`` is the name of a published data set (``tasks/*/settings.py``); attack, defense and model are names of
    methods and architectures. None: the value covers all of them, such as a mean.
    """

    task: str | None
    dataset: str | None
    model: str | None
    attack: str | None
    defense: str


@dataclass(frozen=True, slots=True)
class PrintedTable:
    """One printed table; ``units`` and the values of ``rows`` are keyed by the names of our metrics.

    ``runs``: the paper's names for further results of one run of a defense, by kind of result and by defense.
    """

    name: str
    paper: str
    number: str
    title: str
    notes: tuple[str, ...]
    units: Mapping[str, str]
    runs: Mapping[str, Mapping[str, str]]
    rows: tuple[tuple[Key, float | None, Mapping[str, float | None]], ...]

    @property
    def states_rate(self) -> bool:
        """Whether the paper states the poison rate of this table."""
        return all(rate is not None for _, rate, _ in self.rows)

    def datasets(self, task: str) -> list[str]:
        """The data sets for which the table prints values of a task."""
        return list(dict.fromkeys(key.dataset for key, _, _ in self.rows if key.task == task and key.dataset))

    def value(self, key: Key, rate: float, metric: str) -> float | None:
        """The printed value of one of our metrics, in [0, 1]; None for a dash, or if the table has no such value.

        If the paper states no rate, the row applies to every rate, and notes on the value say so (``states_rate``).
        """
        rows = (row for row_key, at, row in self.rows if row_key == key and at in (None, rate) and metric in row)
        value = next(rows, {}).get(metric)
        return round(value / 100, 6) if value is not None and self.units[metric] == "%" else value


@dataclass(frozen=True, slots=True)
class PaperStatement:
    """A paper's statement about something that a product shows.

    ``requires``: names of tasks and methods (attacks by the paper's names); the statement applies to studies that have
    all of them. ``setting``: the swept setting that it is about. ``values``: its numbers, by the paper's names.
    """

    paper: str
    product: str
    section: str
    text: str | None = None
    setting: str | None = None
    requires: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str | None:
        return None if self.text is None else f"The paper on {self.paper} ({self.section}): {self.text}."


@dataclass(frozen=True, slots=True)
class Claim:
    """A paper's claim about its method that a run can check.

    By ``metric`` (success: the attack's ASR or ANR; clean_cost: loss of the clean metric), the ``defense`` is better
    than each of ``than``, or than no defense; with a ``bound``, the difference or cost is at most this share.
    ``tasks``: the tasks that the claim is about; empty for all.
    """

    paper: str
    section: str
    text: str
    defense: str
    metric: Literal["success", "clean_cost"]
    than: tuple[str, ...] = ()
    bound: float | None = None
    tasks: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        return f"{self.text} ({self.section})"


@dataclass(frozen=True, slots=True)
class Paper:
    """``title`` is the paper's name in the report; ``caveats`` are limitations of its printed values."""

    title: str
    reference: Reference
    venue: str
    tables: tuple[PrintedTable, ...]
    statements: tuple[PaperStatement, ...]
    claims: tuple[Claim, ...]
    caveats: tuple[str, ...]


@cache
def papers() -> Mapping[str, Paper]:
    """Every paper by the name of its file."""
    return {path.stem: _paper(path.stem, read_json(path)) for path in sorted(_FOLDER.glob("*.json"))}


@cache
def tables() -> Mapping[str, PrintedTable]:
    """Every transcribed table by its name, such as ``mypaper_table1``."""
    return {table.name: table for paper in papers().values() for table in paper.tables}


def of_table(name: str) -> Paper:
    """The paper that prints a table."""
    return next(paper for paper in papers().values() if any(table.name == name for table in paper.tables))


def statements() -> list[PaperStatement]:
    return [statement for paper in papers().values() for statement in paper.statements]


def claims() -> list[Claim]:
    return [claim for paper in papers().values() for claim in paper.claims]


def their_name(experiment: Experiment, defense: str) -> str:
    """The paper's name for one of our variants, if the experiment states it; else the variant's own name."""
    names = {our: their for cited in experiment.paper for our, their in cited.defenses.items()}
    return names.get(defense, defense)


def _paper(name: str, content: Mapping[str, Any]) -> Paper:
    title = content["paper"]
    return Paper(
        title=title,
        reference=Reference(**content["reference"]),
        venue=content["venue"],
        tables=tuple(_table(name, title, number, table) for number, table in content["tables"].items()),
        statements=tuple(_statement(title, statement) for statement in content.get("statements", ())),
        claims=tuple(_claim(title, claim) for claim in content.get("claims", ())),
        caveats=tuple(content.get("caveats", ())),
    )


def _table(paper: str, title: str, number: str, table: Mapping[str, Any]) -> PrintedTable:
    metrics = {column: table.get("metrics", {}).get(column, column) for column in table["units"]}
    return PrintedTable(
        name=f"{paper}_{number}",
        paper=title,
        number=number.removeprefix("table"),
        title=table["title"],
        notes=tuple(table["notes"]),
        units={metrics[column]: unit for column, unit in table["units"].items()},
        runs=table.get("runs", {}),
        rows=tuple(_row(row, metrics) for row in table["rows"]),
    )


def _statement(title: str, statement: Mapping[str, Any]) -> PaperStatement:
    return PaperStatement(**{"paper": title, **statement, "requires": tuple(statement.get("requires", ()))})


def _claim(title: str, claim: Mapping[str, Any]) -> Claim:
    lists = {name: tuple(claim.get(name, ())) for name in ("than", "tasks")}
    return Claim(**{"paper": title, **claim, **lists})


def _row(row: list[Any], metrics: Mapping[str, str]) -> tuple[Key, float | None, Mapping[str, float | None]]:
    task, dataset, model, attack, rate, defense, values = row
    by_metric = {metrics[column]: value for column, value in values.items()}
    return Key(task, dataset, model, attack, defense), rate, by_metric
