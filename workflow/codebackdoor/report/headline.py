"""The table at the top of the report: a row for each attack and defense, with the best values and failures marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codebackdoor.report import labels
from codebackdoor.report.collect import DefinedCell
from codebackdoor.report.scan import REMOVED
from codebackdoor.report.study import Study
from codebackdoor.report.tables.results import ResultTable, VictimGroup, by_model

_UNDEFENDED = (labels.BENIGN, labels.UNDEFENDED)


@dataclass(frozen=True, slots=True)
class HeadlineCell:
    """``best``: no other defense against this attack is better. ``failed``: the backdoor still works."""

    cell: DefinedCell | None
    best: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """``is_first``: whether the row is the first of an attack's ``size`` rows."""

    attack: str
    defense: str
    cells: tuple[HeadlineCell, ...]
    is_first: bool
    size: int


@dataclass(frozen=True, slots=True)
class HeadlinePart:
    """The victims of one data set and model, which have the same metrics."""

    title: str
    metrics: tuple[str, ...]
    rows: tuple[HeadlineRow, ...]


def headline(study: Study, table: ResultTable) -> list[HeadlinePart]:
    """One part for each data set and model with an attack in the table."""
    return [_part(study, table, groups) for groups in by_model(table.attacked)]


def _part(study: Study, table: ResultTable, groups: Sequence[VictimGroup]) -> HeadlinePart:
    first = groups[0].scenario
    triggered, clean = study.head(first.dataset).triggered, study.dataset_class(first.dataset).clean_metric
    *further, remaining = triggered.summary
    # the most important metric comes first: a phone shows it without scrolling
    metrics = (remaining, *further, clean)
    # whether higher (1) or lower (-1) is better; other metrics have no better direction
    signs = {clean: 1, remaining: triggered.sign}
    removed = remaining if remaining == triggered.effect else None
    rows = tuple(row for group in groups for row in _rows(table, group, metrics, signs, removed))
    return HeadlinePart(labels.trained(first), metrics, rows)


def _rows(
    table: ResultTable, group: VictimGroup, metrics: Sequence[str], signs: Mapping[str, int], removed: str | None
) -> list[HeadlineRow]:
    """The rows of one attack; ``removed``: the metric that says whether a backdoor is removed, None without one."""
    names = [name for name in table.columns if name in group.scenarios]
    cells = {name: {metric: group.cell(name, metric) for metric in metrics} for name in names}
    defended = [name for name in names if name not in _UNDEFENDED]
    failed = {name for name in defended if removed is not None and _is_above(cells[name][removed], REMOVED)}
    # a defense that does nothing costs no accuracy, so failed ones are not compared
    working = [name for name in defended if name not in failed]
    # a single defense is not marked as the best
    compared = working if len(defended) > 1 else []
    best = {metric: _best([cells[name][metric] for name in compared], sign) for metric, sign in signs.items()}
    rows: list[HeadlineRow] = []
    for name, by_metric in cells.items():
        marked = tuple(
            HeadlineCell(
                cell,
                best=name in working and cell is not None and _displayed(cell) == best.get(metric),
                failed=name in failed and metric == removed,
            )
            for metric, cell in by_metric.items()
        )
        rows.append(HeadlineRow(labels.attack(group.scenario), name, marked, not rows, len(names)))
    return rows


def _best(cells: Sequence[DefinedCell | None], sign: int) -> str | None:
    """The best value as displayed, so that equal-looking values are all marked; None if there is none."""
    defined = [cell for cell in cells if cell is not None]
    return _displayed(max(defined, key=lambda cell: sign * cell.value)) if defined else None


def _displayed(cell: DefinedCell) -> str:
    return labels.percent(cell.value)


def _is_above(cell: DefinedCell | None, limit: float) -> bool:
    return cell is not None and cell.value > limit
