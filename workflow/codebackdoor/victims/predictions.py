"""The stage that asks a victim: test sets in, predictions out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from codebackdoor import files
from codebackdoor.types import Poisoned, Prediction
from codebackdoor.victims import inference
from codebackdoor.victims.victim import load_victim


def predict(victim: Path, inputs: Mapping[str, Path], out: Path) -> None:
    """Write ``out/predictions.{testset}.jsonl`` for each test set of ``inputs``: id, label or text, confidence.

    Triggered test sets keep their failed rows, so that every row has its prediction.
    """
    rows = {name: files.read_mixed(path) for name, path in inputs.items()}
    asked = load_victim(victim)
    for name, found in rows.items():
        examples = [row.example if isinstance(row, Poisoned) else row for row in found]
        write_predictions(out / f"predictions.{name}.jsonl", inference.predict(asked, examples))


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write one row a prediction; what the head does not give is left out."""
    files.write_rows(
        path, ({key: value for key, value in asdict(row).items() if value is not None} for row in predictions)
    )
