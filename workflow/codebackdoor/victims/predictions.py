"""The stage that runs a victim: test sets in, predictions out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from codebackdoor import files
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.types import CLEAN, Example, Field, Poisoned
from codebackdoor.victims import inference
from codebackdoor.victims.retrieval import Retriever
from codebackdoor.victims.rows import examples, rewritten
from codebackdoor.victims.victim import Victim, load_victim


def predict(
    victim: Path,
    inputs: Mapping[str, Path],
    out: Path,
    replacements: Mapping[str, Path] | None = None,
    pool: int = 1,
) -> None:
    """Write ``out/predictions.{testset}.jsonl`` for each test set of ``inputs``: id, confidence, and the prediction.

    Failed rows of triggered test sets are predicted, too, except by a ranking victim, which has a prediction for each
    query with the target word. ``replacements`` maps test sets to
    inputs rewritten by a purification, which the victim reads instead; they are also written to
    ``out/purified.{testset}.jsonl``. ``pool``: number of functions that a dual encoder ranks for each query.
    """
    rows = {name: files.read_mixed(path) for name, path in inputs.items()}
    replacements = replacements or {}
    purified = {name: _purified(path) for name, path in replacements.items()}
    loaded = load_victim(victim)
    for name in purified:
        rows[name] = [_replaced(row, purified[name], replacements[name]) for row in rows[name]]
        files.write_rows(out / f"purified.{name}.jsonl", purified[name].values())
    write_predictions(loaded, rows, out, pool)


def write_predictions(victim: Victim, rows: Mapping[str, Sequence[Example | Poisoned]], out: Path, pool: int) -> None:
    """Write the victim's predictions for every test set; fields that its head does not have are left out."""
    retriever = Retriever(victim, examples(rows[CLEAN]), pool) if HEADS[victim.head].ranks else None
    for name, testset in rows.items():
        if retriever is None:
            predictions = inference.predict(victim, examples(testset))
        elif name == CLEAN:
            predictions = retriever.clean()
        else:
            triggered = [row for row in testset if isinstance(row, Poisoned)]
            # a failed row has no target word
            word = next((str(row.example.target) for row in triggered if row.status == "injected"), None)
            if word is None:
                raise UserError(f"test set {name}: no row carries a trigger; attack more test rows (test_share)")
            predictions = retriever.triggered(triggered, word)
        if not all(math.isfinite(prediction.confidence) for prediction in predictions):
            raise UserError(inference.NOT_FINITE)
        fields = ({key: value for key, value in asdict(row).items() if value is not None} for row in predictions)
        files.write_rows(out / f"predictions.{name}.jsonl", fields)


def _replaced(row: Example | Poisoned, purified: Mapping[str, Mapping[str, Any]], path: Path) -> Example | Poisoned:
    example = row.example if isinstance(row, Poisoned) else row
    if example.id not in purified:
        raise UserError(f"{path}: row {example.id!r} was not rewritten; delete the file and run again")
    texts = purified[example.id]
    return rewritten(row, {name: str(texts[name]) for name in get_args(Field) if name in texts})


def _purified(path: Path) -> dict[str, dict[str, Any]]:
    return {str(row["id"]): row for _, row in files.read_rows(path)}
