"""The data set stage: from a corpus, a mirror or a user's folder to splits, card and baseline."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.corpora.stage import read_functions
from codebackdoor.errors import UserError
from codebackdoor.originals import mirror as mirrors
from codebackdoor.seeding import numpy_generator
from codebackdoor.tasks import card, load, selection, sources
from codebackdoor.tasks.base import Task
from codebackdoor.tasks.sources import Selected
from codebackdoor.tasks.token_counter import TokenCounter
from codebackdoor.types import SPLITS

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset

log = logging.getLogger(__name__)


def make_dataset(
    settings: AnyDataset,
    name: str,
    corpus: Path | None,
    mirror: Path | None,
    tokenizer: Path | None,
    out: Path,
    seed: int,
) -> None:
    """Write ``{train,valid,test,clean}.jsonl``, ``card.json`` and ``baseline.json``.

    ``corpus`` is read for source pypi, ``mirror`` for source mirror. Same settings, inputs and seed: same bytes. Raises
    UserError for missing or malformed input, and if a split would be empty.
    """
    task, counter = load(settings.task), TokenCounter(tokenizer)
    selected, paths = _selected(settings, name, corpus, mirror, task, counter, seed)
    for split in SPLITS:
        sources.check_any(name, split, selected, settings.resplit)
    shared = selection.shared_keys(selected.splits)
    generator = numpy_generator(seed, "clean", name)
    counts = {split: sum(len(group.rows) for group in groups) for split, groups in selected.splits.items()}
    rest, clean = selection.set_aside(selected.splits["train"], settings.clean, generator)
    selected.splits["train"], selected.splits["clean"] = rest, clean
    if not selected.splits["train"]:
        rows = "the one row" if counts["train"] == 1 else f"all {counts['train']} rows"
        raise UserError(
            f"datasets.{name}: no row is left for train: {rows} became the defender's (`clean: {settings.clean:g}`); "
            "bring more rows, or write a smaller share"
        )
    for split, size in sources.sizes(settings).items():
        if size is not None and counts[split] < size - 1:
            log.warning(
                "datasets.%s: %s has only %d rows of the %d configured: no more are available",
                *(name, split, counts[split], size),
            )
    examples = {
        split: selection.shuffled(selected.splits[split], numpy_generator(seed, "order", name, split))
        for split in (*SPLITS, "clean")
    }
    baseline = task.baseline(examples["train"], examples["test"], settings)
    facts = card.facts(settings, name, seed, selected, examples, counter, paths)
    facts["groups_with_a_duplicate_in_another_split"] = shared
    if settings.source == "pypi":
        facts |= task.card_facts(selected.splits)
    for split, rows_of_split in examples.items():
        files.write_examples(out / f"{split}.jsonl", rows_of_split)
    files.write_json(out / "baseline.json", baseline)
    files.write_json(out / "card.json", facts)


def _selected(
    settings: AnyDataset,
    name: str,
    corpus: Path | None,
    mirror: Path | None,
    task: Task,
    counter: TokenCounter,
    seed: int,
) -> tuple[Selected, list[Path]]:
    """The groups of every split, and the files that were read."""
    source = mirrors.source_files(settings, name, mirror)
    if source is None:
        if corpus is None:
            raise UserError(f"datasets.{name}: source pypi needs the mined corpus; pass it with --corpus")
        return sources.mined(read_functions(corpus), settings, task, counter, name, seed), [corpus]
    splits = source.splits(settings.resplit)
    rows = {split: source.examples(split) for split in splits}
    firsts = {split: source.paths(split)[0] for split in splits}
    # for the card, in which the mirror's own path does not matter
    origins = {
        split: path.relative_to(mirror).as_posix() if mirror and settings.source == "mirror" else str(path)
        for split, path in firsts.items()
    }
    selected = sources.existing(rows, origins, settings, task, counter, name, seed)
    if settings.source == "jsonl" and selected.unparsed:
        log.warning(
            "datasets.%s: %d of %d rows do not parse as %s %s; attacks will fail on them. Is `text_form` right?",
            name,
            selected.unparsed,
            sum(map(len, rows.values())),
            settings.text_form,
            settings.language,
        )
    return selected, [path for split in splits for path in source.paths(split)]
