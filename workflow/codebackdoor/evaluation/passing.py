"""pass@1: the share of rows whose output passes their tests (Chen et al. 2021, section 2.1, one output per row)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codebackdoor.errors import UserError
from codebackdoor.evaluation.intervals import Estimate, Sample
from codebackdoor.evaluation.metrics import share
from codebackdoor.files import read_rows

if TYPE_CHECKING:
    from codebackdoor.evaluation.answers import Answers
    from codebackdoor.types import Example


def read_outcomes(answers: Answers) -> Mapping[str, str] | None:
    """The outcome of each output's execution by row; None if the data set has no tests."""
    path = outcomes_path(answers.path)
    if not path.exists():
        return None
    try:
        outcomes = {str(row["id"]): str(row["outcome"]) for _, row in read_rows(path)}
    except KeyError as error:
        raise UserError(f"{path}: an executed row needs {error}") from None
    missing = [id_ for id_ in answers.predictions if id_ not in outcomes]
    if missing:
        raise UserError(f"{path}: row {missing[0]!r} was not executed; delete the file and execute again")
    return outcomes


def outcomes_path(predictions: Path) -> Path:
    """``executed.{testset}.jsonl`` next to ``predictions.{testset}.jsonl``."""
    return predictions.with_name(predictions.name.replace("predictions.", "executed.", 1))


def estimates(
    rows: Sequence[Example], outcomes: Mapping[str, str], generator: np.random.Generator
) -> dict[str, Estimate]:
    """pass@1 with its interval."""
    table = np.array([[1, int(outcomes[row.id] == "passed")] for row in rows], dtype=np.int64)
    sample = Sample(("rows", "passed"), table.reshape(len(rows), 2), generator)
    return {"pass_1": sample.estimate(share("passed"), len(rows))}
