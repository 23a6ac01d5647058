"""The stage that runs the tests of each row on the victim's output."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from codebackdoor import files, syntax
from codebackdoor.errors import UserError, quoted
from codebackdoor.evaluation.answers import read_answers
from codebackdoor.evaluation.execution.sandbox import Sandbox, limits_of
from codebackdoor.trials import read_trials

if TYPE_CHECKING:
    from codebackdoor.evaluation.execution.settings import ExecutionSettings
    from codebackdoor.types import TextForm

log = logging.getLogger(__name__)


def execute(
    settings: ExecutionSettings, predictions: Path, trials: Path, form: TextForm, out: Path, workers: int = 1
) -> None:
    """Write ``out``: for each row of ``predictions`` (``predictions.{testset}.jsonl``), how its output ended.

    ``trials`` are the tests of the rows. An output that is not a program in the text form ends with ``syntax``. Raises
    IsolationError if this machine cannot isolate programs as configured, and UserError for a row without tests.
    """
    testset = predictions.name.removeprefix("predictions.").removesuffix(".jsonl")
    if predictions.name != f"predictions.{testset}.jsonl":
        raise UserError(f"{predictions}: name the file predictions.TESTSET.jsonl, as `codebackdoor predict` does")
    answers, tests = read_answers(predictions.parent, testset), read_trials(trials)
    missing = [id_ for id_ in answers.predictions if id_ not in tests]
    if missing:
        raise UserError(f"{trials}: row {quoted(missing[0])} has no tests, but a prediction in {answers.path}")
    sources = {id_: source_of(answers.text(id_), form) for id_ in answers.predictions}
    sandbox = Sandbox(limits_of(settings), settings.isolation)
    sandbox.check()
    programs = {id_: source for id_, source in sources.items() if source is not None}
    ends = sandbox.run_all(list(programs.values()), [tests[id_] for id_ in programs], workers)
    progress = tqdm(ends, total=len(programs), desc=f"execute {testset}", unit=" programs", disable=None)
    outcomes = dict(zip(programs, progress, strict=True))
    rows = [{"id": id_, "outcome": outcomes.get(id_, "syntax")} for id_ in sources]
    log.info("%s: %s", answers.path, dict(Counter(row["outcome"] for row in rows)))
    files.write_rows(out, rows)


def source_of(text: str, form: TextForm) -> str | None:
    """The Python source of an output; None if the output is not valid in this text form."""
    if form == "raw":
        return text
    try:
        return syntax.unlex(text, "python").source
    except syntax.LexingError:
        return None
