"""The stage that asks a victim: test sets in, predictions out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from codebackdoor import files
from codebackdoor.errors import UserError
from codebackdoor.types import Poisoned, Prediction
from codebackdoor.victims import inference
from codebackdoor.victims.victim import load_victim


def predict(
    victim: Path, inputs: Mapping[str, Path], out: Path, replacements: Mapping[str, Path] | None = None
) -> None:
    """Write ``out/predictions.{testset}.jsonl`` for each test set of ``inputs``: id, label or text, confidence.

    Triggered test sets keep their failed rows, so that every row has its prediction. ``replacements`` maps test sets to
    what a purification made of them: the victim reads that, and it is written to ``out/purified.{testset}.jsonl``.
    """
    rows = {name: files.read_mixed(path) for name, path in inputs.items()}
    replacements = replacements or {}
    purified = {name: _purified(path) for name, path in replacements.items()}
    asked = load_victim(victim)
    for name, found in rows.items():
        examples = [row.example if isinstance(row, Poisoned) else row for row in found]
        if name in purified:
            examples = [replace(row, code=_code(purified[name], row.id, replacements[name])) for row in examples]
            files.write_rows(out / f"purified.{name}.jsonl", purified[name].values())
        write_predictions(out / f"predictions.{name}.jsonl", inference.predict(asked, examples))


def _purified(path: Path) -> dict[str, dict[str, Any]]:
    return {str(row["id"]): row for _, row in files.read_rows(path)}


def _code(rows: Mapping[str, Mapping[str, Any]], id_: str, path: Path) -> str:
    try:
        return str(rows[id_]["code"])
    except KeyError:
        raise UserError(f"{path}: row {id_!r} was not rewritten; delete the file and make it again") from None


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write one row a prediction; what the head does not give is left out."""
    files.write_rows(
        path, ({key: value for key, value in asdict(row).items() if value is not None} for row in predictions)
    )
