"""The data set stage: from a corpus, a mirror or a user's folder to splits, card and baseline."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codebackdoor import files
from codebackdoor.corpora import mirror as mirrors
from codebackdoor.corpora.mirror import SPLITS
from codebackdoor.corpora.stage import read_functions
from codebackdoor.errors import UserError
from codebackdoor.seeding import numpy_generator
from codebackdoor.tasks import Task, card, load, selection, sources
from codebackdoor.tasks.measure import Measure
from codebackdoor.tasks.sources import Made

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
    UserError for missing or malformed input, and where a split would be empty.
    """
    task, measure = load(settings.task), Measure(tokenizer)
    made, read = _made(settings, name, corpus, mirror, task, measure, seed)
    for split in SPLITS:
        _check_any(name, split, made, settings.resplit)
    shared = selection.shared_keys(made.splits)
    generator = numpy_generator(seed, "clean", name)
    rows_of = {split: sum(len(group.rows) for group in groups) for split, groups in made.splits.items()}
    given = rows_of["train"]
    made.splits["train"], made.splits["clean"] = selection.set_aside(made.splits["train"], settings.clean, generator)
    if not made.splits["train"]:
        raise UserError(
            f"datasets.{name}: no row is left for train: {'the one row' if given == 1 else f'all {given} rows'} became "
            f"the defender's (`clean: {settings.clean:g}`); bring more rows, or write a smaller share"
        )
    for split, wanted in sources.sizes(settings).items():
        if wanted is not None and rows_of[split] < wanted - 1:
            log.warning(
                "datasets.%s: %s has %d rows, fewer than the %d asked for: all that there are",
                *(name, split, rows_of[split], wanted),
            )
    rows = {
        split: selection.shuffled(made.splits[split], numpy_generator(seed, "order", name, split))
        for split in (*SPLITS, "clean")
    }
    baseline = task.baseline(rows["train"], rows["test"], settings)
    facts: dict[str, Any] = {
        "name": name,
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "splits": card.describe(rows, measure),
        "length_unit": measure.unit,
        "tokenizer_sha256": measure.digest,
        "groups_with_a_duplicate_in_another_split": shared,
        "left_out": dict(sorted(made.dropped.items())),
        "origins": card.origins(made.splits),
        "read": {path.name: files.sha256(path) for path in read},
    }
    if settings.source == "pypi" and settings.head == "pair":
        facts["rewritings"] = card.rewritings(made.splits)
    elif settings.source == "pypi" and settings.head != "retrieval":
        facts["mutations"] = card.mutations(made.splits)
    elif settings.source != "pypi":
        facts["rows_that_do_not_parse"] = made.unparsed
    for split, examples in rows.items():
        files.write_examples(out / f"{split}.jsonl", examples)
    files.write_json(out / "baseline.json", baseline)
    files.write_json(out / "card.json", facts)


def _made(
    settings: AnyDataset,
    name: str,
    corpus: Path | None,
    mirror: Path | None,
    task: Task,
    measure: Measure,
    seed: int,
) -> tuple[Made, list[Path]]:
    """Return the groups and the files that were read."""
    there = mirrors.source_files(settings, name, mirror)
    if there is None:
        if corpus is None:
            raise UserError(f"datasets.{name}: source pypi needs the mined corpus; pass it with --corpus")
        return sources.mined(read_functions(corpus), settings, task, measure, name, seed), [corpus]
    splits = there.splits(settings.resplit)
    rows = {split: there.examples(split) for split in splits}
    firsts = {split: there.paths(split)[0] for split in splits}
    # in the card: where the mirror lies does not matter
    origins = {
        split: path.relative_to(mirror).as_posix() if mirror and settings.source == "mirror" else str(path)
        for split, path in firsts.items()
    }
    made = sources.given(rows, origins, settings, task, measure, name, seed)
    if settings.source == "jsonl" and made.unparsed:
        log.warning(
            "datasets.%s: %d of %d rows do not parse as %s %s; attacks will fail on them. Is `text_form` right?",
            name,
            made.unparsed,
            sum(map(len, rows.values())),
            settings.text_form,
            settings.language,
        )
    return made, [path for split in splits for path in there.paths(split)]


def _check_any(name: str, split: str, made: Made, resplit: bool) -> None:
    if not made.splits[split]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(made.dropped.items())) or "none was there"
        longer = "raise max_tokens or " if made.dropped["too_long"] else ""
        fewer = "write smaller numbers for `test` and `valid`, or " if resplit else ""
        raise UserError(f"datasets.{name}: no row is left for {split} ({reasons}); {longer}{fewer}bring more data")
