"""What the stages of the filters share: rows judged blindly, and the files of the kept rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.defenses import blinding, filtering
from codebackdoor.defenses.filtering import Filter, Judged
from codebackdoor.defenses.views import TextView, TrainingRow
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Poisoned
from codebackdoor.victims.rows import examples

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyFiltering


def write_kept(settings: AnyFiltering, view: TextView, train: Path, out: Path, seed: int) -> None:
    """Write ``out/train.jsonl``: the rows of ``train`` that the filter keeps, unchanged and in their order.

    ``judged.jsonl`` contains the verdict on every row with the method's evidence, ``filtering.json`` the number of
    dropped rows. Raises UserError if no row of some label is kept, from which no victim could learn the label.
    """
    rows = files.read_mixed(train)
    with blinding.nameless():
        method = filtering.load(settings.method)(view, settings, seed)
        judged = judge_blindly(method, examples(rows))
    dropped = [verdict.dropped for verdict in judged]
    _check_kept(examples(rows), dropped, train)
    files.write_rows(
        out / "judged.jsonl", ({"id": verdict.id, "dropped": verdict.dropped, **verdict.detail} for verdict in judged)
    )
    files.write_json(
        out / "filtering.json", {"method": settings.method, **method.facts, "rows": counted(rows, dropped)}
    )
    rows_read = zip(files.read_rows(train), dropped, strict=True)
    files.write_rows(out / "train.jsonl", (row for (_, row), is_dropped in rows_read if not is_dropped))


def _check_kept(rows: Sequence[Example], dropped: Sequence[bool], train: Path) -> None:
    remaining = {row.label for row, is_dropped in zip(rows, dropped, strict=True) if not is_dropped}
    for label in sorted({row.label for row in rows}, key=str):
        if label not in remaining:
            named = "" if label is None else f" with label {label}"
            count = sum(row.label == label for row in rows)
            raise UserError(
                f"all {count} rows of {train}{named} would be dropped; set a lower share, a higher threshold or "
                "another rule"
            )


def judge_blindly(method: Filter, rows: Sequence[Example]) -> list[Judged]:
    """Judge the rows in neutral order and with opaque ids, then restore order and ids."""
    order = blinding.neutral_order(rows)
    verdicts = method.judge([_bare(rows[index], str(number)) for number, index in enumerate(order)])
    by_index = dict(zip(order, verdicts, strict=True))
    return [Judged(row.id, by_index[index].dropped, by_index[index].detail) for index, row in enumerate(rows)]


def _bare(row: Example, number: str) -> TrainingRow:
    return TrainingRow(number, row.code, row.code_b, row.query, row.label, row.target)


def counted(rows: Sequence[Example | Poisoned], dropped: Sequence[bool]) -> dict[str, object]:
    """Numbers of rows and of dropped rows: in total, with a trigger, without one.

    The method never knows which rows carry a trigger; readers of its results may.
    """
    triggered = [isinstance(row, Poisoned) and row.status == "injected" for row in rows]
    pairs = list(zip(triggered, dropped, strict=True))
    return {
        "all": _share(dropped),
        "poisoned": _share([gone for carries, gone in pairs if carries]),
        "clean": _share([gone for carries, gone in pairs if not carries]),
    }


def _share(dropped: Sequence[bool]) -> dict[str, object]:
    total, gone = len(dropped), sum(dropped)
    return {"there": total, "dropped": gone, "share": round(gone / total, 6) if total else None}
