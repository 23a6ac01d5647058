"""The stage of the filters that look at a trained victim: training rows and victim in, kept rows out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.defenses import blinding, filtering
from codebackdoor.defenses.training_rows import counted, judge_blindly
from codebackdoor.defenses.training_view import training_view
from codebackdoor.errors import UserError
from codebackdoor.types import Example
from codebackdoor.victims.rows import examples
from codebackdoor.victims.victim import load_victim

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.methods import AnyFiltering


def sift_by_victim(
    settings: AnyFiltering,
    dataset: AnyDataset,
    victim: Path,
    train: Path,
    clean: Path,
    helpers: Mapping[str, Path],
    out: Path,
    seed: int,
) -> None:
    """``training_rows.sift`` with a filter that sees the ``victim``, which was trained on all rows.

    Raises UserError if no row of some label is kept.
    """
    rows = files.read_mixed(train)
    view = training_view(load_victim(victim), dataset, tuple(files.read_examples(clean)), helpers)
    plain = examples(rows)
    with blinding.nameless():
        method = filtering.load(settings.method)(view, settings, seed)
        judged = judge_blindly(method, plain)
    dropped = [verdict.dropped for verdict in judged]
    _check_kept(plain, dropped, train)
    files.write_rows(
        out / "judged.jsonl", ({"id": verdict.id, "dropped": verdict.dropped, **verdict.detail} for verdict in judged)
    )
    report = {"method": settings.method, **method.facts, "rows": counted(rows, dropped)}
    files.write_json(out / "filtering.json", report)
    kept = zip(files.read_rows(train), dropped, strict=True)
    files.write_rows(out / "train.jsonl", (row for (_, row), gone in kept if not gone))


def _check_kept(rows: Sequence[Example], dropped: Sequence[bool], train: Path) -> None:
    kept = {row.label for row, gone in zip(rows, dropped, strict=True) if not gone}
    for label in sorted({row.label for row in rows}, key=str):
        if label not in kept:
            named = "" if label is None else f" with label {label}"
            count = sum(row.label == label for row in rows)
            raise UserError(
                f"all {count} rows of {train}{named} would be dropped, and a victim could not learn from the rest; "
                "set a lower share or another rule"
            )
