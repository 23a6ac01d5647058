"""The scoring stage: joins predictions to the rows they belong to and writes ``metrics.json``; needs no model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codebackdoor import files, tasks
from codebackdoor.evaluation.answers import read_answers
from codebackdoor.evaluation.intervals import DRAWS, LEVEL
from codebackdoor.evaluation.scoring.base import Evaluation, scorer_of
from codebackdoor.types import CLEAN

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset


def score(
    dataset: AnyDataset,
    references: Mapping[str, Path],
    predictions: Path,
    out: Path,
    seed: int,
) -> None:
    """Write ``out/metrics.json`` from ``predictions/predictions.{testset}.jsonl`` and ``purified.{testset}.jsonl``.

    ``references`` maps each test set (``clean`` and the names of attacks) to its rows, which carry the attack's target.
    Shares are in [0, 1]; an undefined value is null with n = 0.
    """
    clean = files.read_examples(references[CLEAN])
    answers = {name: read_answers(predictions, name) for name in references}
    evaluation = Evaluation(dataset, tasks.load(dataset.task), answers, seed)
    scorer = scorer_of(dataset.head)
    testsets: dict[str, Any] = {CLEAN: {"rows": len(clean), **scorer.clean(clean, evaluation)}}
    for name, path in references.items():
        if name != CLEAN:
            testsets[name] = scorer.triggered(files.read_poisoned(path), name, evaluation)
    interval = {"method": "percentile bootstrap over test rows", "level": LEVEL, "draws": DRAWS}
    files.write_json(out / "metrics.json", {"task": dataset.task, "interval": interval, "testsets": testsets})
