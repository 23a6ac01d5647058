"""The table of a run's metrics, ``results/metrics.csv``: its columns, and how it is read."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from codebackdoor.config.scenario import CONSTRAINTS, NAME, Scenario
from codebackdoor.errors import UserError, quoted
from codebackdoor.files import read_text

KINDS = tuple(field.name for field in fields(Scenario))
ESTIMATE = ("value", "low", "high", "n")
METRIC_COLUMNS = (*KINDS, "testset", "metric", *ESTIMATE)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one scenario on one test set, with its 95% bootstrap interval.

    Shares are in [0, 1]. ``value`` is None if the metric is undefined; ``rows`` is its denominator.
    """

    scenario: Scenario
    testset: str
    name: str
    value: float | None
    low: float | None
    high: float | None
    rows: int


def read_metrics(run: Path) -> Iterator[Metric]:
    """Yield the metrics of the run in a folder, ordered by the scenarios' paths.

    Raises UserError if the run has none, or if the table is not one that a run wrote.
    """
    path = run / "results/metrics.csv"
    if not path.is_file():
        raise UserError(f"{path}: not found; name the folder of a finished run, such as runs/local")
    reader = csv.DictReader(io.StringIO(read_text(path)))
    try:
        if tuple(reader.fieldnames or ()) != METRIC_COLUMNS:
            raise UserError(f"{path}: not the metrics of a run: its columns are not {', '.join(METRIC_COLUMNS)}")
        for row in reader:
            yield _metric(row, f"{path}:{reader.line_num}")
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); have the run make it again") from None


def _metric(row: Mapping[str, str | None], where: str) -> Metric:
    names = {kind: row[kind] or "" for kind in KINDS}
    testset, name, rows = (row[column] or "" for column in ("testset", "metric", "n"))
    # names become parts of paths, so check them
    fitting = all(re.fullmatch(CONSTRAINTS[kind], value) for kind, value in names.items())
    if not fitting or not re.fullmatch(NAME, testset) or not name or not rows.isdecimal() or None in row:
        raise UserError(f"{where}: not a row of the metrics of a run; have the run make it again")
    value, low, high = (_number(row[column], where) for column in ("value", "low", "high"))
    return Metric(Scenario(**names), testset, name, value, low, high, int(rows))


def _number(text: str | None, where: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: the value {quoted(text)} is not a number; have the run make it again")
    return number
