"""The stage that asks a victim: test sets in, predictions out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codebackdoor import files
from codebackdoor.errors import UserError
from codebackdoor.types import CLEAN, Example, Poisoned
from codebackdoor.victims import inference
from codebackdoor.victims.retrieval import Searcher
from codebackdoor.victims.rows import examples, rewritten
from codebackdoor.victims.victim import Victim, load_victim


def predict(
    victim: Path,
    inputs: Mapping[str, Path],
    out: Path,
    replacements: Mapping[str, Path] | None = None,
    pool: int = 1,
) -> None:
    """Write ``out/predictions.{testset}.jsonl`` for each test set of ``inputs``: id, confidence, and what was said.

    Triggered test sets keep their failed rows, so that every row has its prediction. ``replacements`` maps test sets to
    what a purification made of them: the victim reads that, and it is written to ``out/purified.{testset}.jsonl``.
    ``pool``: functions that a dual encoder ranks for a query.
    """
    rows = {name: files.read_mixed(path) for name, path in inputs.items()}
    replacements = replacements or {}
    purified = {name: _purified(path) for name, path in replacements.items()}
    asked = load_victim(victim)
    for name in purified:
        rows[name] = [_replaced(row, purified[name], replacements[name]) for row in rows[name]]
        files.write_rows(out / f"purified.{name}.jsonl", purified[name].values())
    write_predictions(asked, rows, out, pool)


def write_predictions(victim: Victim, rows: Mapping[str, Sequence[Example | Poisoned]], out: Path, pool: int) -> None:
    """Ask the victim about every test set and write its answers; what the head does not give is left out."""
    searcher = Searcher(victim, examples(rows[CLEAN]), pool) if victim.head == "retrieval" else None
    for name, own in rows.items():
        if searcher is None:
            found = inference.predict(victim, examples(own))
        elif name == CLEAN:
            found = searcher.clean()
        else:
            triggered = [row for row in own if isinstance(row, Poisoned)]
            found = searcher.triggered(triggered, str(triggered[0].example.target))
        if not all(math.isfinite(row.confidence) for row in found):
            raise UserError(inference.NOT_FINITE)
        kept = ({key: value for key, value in asdict(row).items() if value is not None} for row in found)
        files.write_rows(out / f"predictions.{name}.jsonl", kept)


def _replaced(row: Example | Poisoned, purified: Mapping[str, Mapping[str, Any]], path: Path) -> Example | Poisoned:
    example = row.example if isinstance(row, Poisoned) else row
    if example.id not in purified:
        raise UserError(f"{path}: row {example.id!r} was not rewritten; delete the file and make it again")
    return rewritten(row, str(purified[example.id]["code"]), purified[example.id].get("code_b"))


def _purified(path: Path) -> dict[str, dict[str, Any]]:
    return {str(row["id"]): row for _, row in files.read_rows(path)}
