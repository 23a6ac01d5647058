"""The stage of the purifications that use a victim: test inputs in, rewritten inputs and predictions on them out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.defenses import blinding, purification
from codebackdoor.defenses.defender_view import defender_view
from codebackdoor.defenses.stages.job import DefenseJob
from codebackdoor.defenses.stages.purified_rows import blindly, write_purified
from codebackdoor.types import Example, Poisoned
from codebackdoor.victims.predictions import write_predictions
from codebackdoor.victims.rows import examples, rewritten
from codebackdoor.victims.victim import load_victim

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyPurification


def purify(settings: AnyPurification, job: DefenseJob, trigger: Path | None = None) -> None:
    """Write ``purified.{testset}.jsonl`` and ``predictions.{testset}.jsonl`` for each test set.

    The method is calibrated once, on the clean rows; each test set is purified separately. ``trigger`` is the
    ``trigger.json`` of the preceding elimination, for methods that read it.
    """
    clean = tuple(files.read_examples(job.clean))
    rows = {name: files.read_mixed(path) for name, path in job.testsets.items()}
    loaded = load_victim(job.victim)
    view = defender_view(loaded, job.dataset, clean, job.helpers)
    if trigger is not None:
        view = replace(view, inverted=files.read_json(trigger))
    with blinding.nameless():
        purifier = purification.load(settings.method)(view, settings, job.seed)
        purified = blindly(purifier, {name: examples(testset) for name, testset in rows.items()})
    rewritten_rows: dict[str, list[Example | Poisoned]] = {}
    for name, testset in rows.items():
        write_purified(job.out / f"purified.{name}.jsonl", purified[name])
        rewritten_rows[name] = [
            rewritten(row, new.example.texts) for row, new in zip(testset, purified[name], strict=True)
        ]
    write_predictions(loaded, rewritten_rows, job.out, job.dataset.ranking.pool)
