"""Data sets that have only test rows, on which the victims of another data set predict.

This stage also writes the tests of a data set's test rows, if its origin has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from codebackdoor import files
from codebackdoor.errors import UserError, quoted
from codebackdoor.originals import mirror as mirrors
from codebackdoor.originals import readers
from codebackdoor.seeding import numpy_generator
from codebackdoor.tasks import card, load, selection, sources
from codebackdoor.tasks.token_counter import TokenCounter
from codebackdoor.trials import FILE, Trial, read_trials, write_trials

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset


def make_testset(
    settings: AnyDataset,
    name: str,
    train: Path,
    mirror: Path | None,
    tokenizer: Path | None,
    out: Path,
    seed: int,
) -> None:
    """Write ``test.jsonl``, ``card.json`` and ``baseline.json``, as ``tasks.stage.make_dataset`` does.

    ``train`` holds the training rows of the data set whose victims predict on these rows; the baseline learns from
    them. Raises UserError for missing or malformed input, and if no row is left.
    """
    task, counter = load(settings.task), TokenCounter(tokenizer)
    source = mirrors.source_files(settings, name, mirror)
    if source is None:
        raise UserError(f"datasets.{name}: with `trained_on`, write `source: mirror` or `source: jsonl`")
    path = source.paths("test")[0]
    selected = sources.existing(
        {"test": source.examples("test")}, {"test": path.name}, settings, task, counter, name, seed
    )
    sources.check_any(name, "test", selected)
    rows = selection.shuffled(selected.splits["test"], numpy_generator(seed, "order", name, "test"))
    baseline = task.baseline(files.read_examples(train), rows, settings)
    facts = card.facts(settings, name, seed, selected, {"test": rows}, counter, source.paths("test"))
    facts["splits"] |= {split: {"rows": 0} for split in ("train", "valid", "clean")}
    files.write_examples(out / "test.jsonl", rows)
    files.write_json(out / "baseline.json", baseline)
    files.write_json(out / "card.json", facts)


def make_trials(settings: AnyDataset, name: str, rows: Path, mirror: Path | None, out: Path) -> None:
    """Write to ``out`` the tests of the test rows in ``rows``; a UserError names a row that has none."""
    source = mirrors.source_files(settings, name, mirror)
    if source is None:
        raise UserError(f"datasets.{name}: rows of the mined corpus have no tests")
    if settings.path is not None:
        origin = settings.path / FILE
        trials = read_trials(origin)
    else:
        origin = source.paths("test")[0]
        trials = {trial.id: trial for trial in _published(settings.originals, source.paths("test"))}
    ids = [row.id for row in files.read_examples(rows)]
    missing = [id_ for id_ in ids if id_ not in trials]
    if missing:
        raise UserError(f"{origin}: row {quoted(missing[0])} of the test split has no tests; add them")
    write_trials(out, (trials[id_] for id_ in ids))


def _published(name: str, paths: list[Path]) -> list[Trial]:
    reader: Any = readers.load(name)
    return list(reader.trials(paths))
