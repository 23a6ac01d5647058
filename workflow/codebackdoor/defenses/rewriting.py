"""Purified inputs as rows, and the stage of the purifications that do not look at a victim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files, seeding
from codebackdoor.defenses import purification
from codebackdoor.defenses.purification import Purifier
from codebackdoor.types import Example, Purified, TextView
from codebackdoor.victims.rows import examples

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.purifications import AnyPurification


def rewrite(
    settings: AnyPurification,
    dataset: AnyDataset,
    valid: Path,
    inputs: Path,
    helpers: Mapping[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Write ``out/purified.jsonl``: the test set ``inputs`` as every victim will read it.

    The method is calibrated on the clean rows of ``valid`` and sees no victim.
    """
    clean = tuple(files.read_examples(valid))
    rows = files.read_mixed(inputs)
    view = TextView(dataset.task, dataset.language, dataset.text_form, clean, dict(helpers))
    purifier = purification.load(settings.method)(view, settings, seed)
    write_purified(out / "purified.jsonl", blindly(purifier, examples(rows), seed))


def blindly(purifier: Purifier, inputs: Sequence[Example], seed: int) -> list[Purified]:
    """Purify in random order and without id, label and target; give order and ids back after that."""
    order = seeding.numpy_generator(seed, "purify", "order").permutation(len(inputs)).tolist()
    bare = [replace(inputs[index], id=str(number), label=None, target=None) for number, index in enumerate(order)]
    found = dict(zip(order, purifier.purify(bare), strict=True))
    return [
        replace(found[index], example=replace(found[index].example, id=example.id))
        for index, example in enumerate(inputs)
    ]


def write_purified(path: Path, rows: Iterable[Purified]) -> None:
    """Write one row an input: id, new code (a pair: both), touched spans of the old (field, start, end), evidence."""
    files.write_rows(
        path,
        (
            {
                "id": row.example.id,
                "code": row.example.code,
                **({} if row.example.code_b is None else {"code_b": row.example.code_b}),
                "touched": [[span.field, span.start, span.end] for span in row.touched],
                "detail": row.detail,
            }
            for row in rows
        ),
    )
