"""The stages of the defenses that need a trained victim: files in, files out (DESIGN section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files, seeding
from codebackdoor.defenses import purification
from codebackdoor.defenses.purification import Purifier
from codebackdoor.types import DefenderView, Example, Poisoned, Purified
from codebackdoor.victims import inference
from codebackdoor.victims.stage import write_predictions
from codebackdoor.victims.victim import load_victim

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.purifications import AnyPurification


def purify(
    settings: AnyPurification,
    dataset: AnyDataset,
    victim: Path,
    valid: Path,
    inputs: Mapping[str, Path],
    helpers: Mapping[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Write ``out/purified.{testset}.jsonl`` and ``out/predictions.{testset}.jsonl`` for each test set of ``inputs``.

    The method is calibrated on the clean rows of ``valid``. Purified rows hold the id, the new code, the touched spans
    of the old code as [field, start, end], and the method's evidence.
    """
    clean = tuple(files.read_examples(valid))
    rows = {name: files.read_mixed(path) for name, path in inputs.items()}
    asked = load_victim(victim)
    view = DefenderView(asked, dataset.task, dataset.language, dataset.text_form, clean, dict(helpers))
    purifier = purification.load(settings.method)(view, settings, seed)
    examples = [row.example if isinstance(row, Poisoned) else row for found in rows.values() for row in found]
    purified = iter(_blindly(purifier, examples, seed))
    for name, found in rows.items():
        own = [next(purified) for _ in found]
        files.write_rows(out / f"purified.{name}.jsonl", map(_purified_row, own))
        write_predictions(out / f"predictions.{name}.jsonl", inference.predict(asked, [row.example for row in own]))


def _blindly(purifier: Purifier, examples: Sequence[Example], seed: int) -> list[Purified]:
    """Purify all test sets as one, in random order and without id, label and target; give the ids back after that."""
    order = seeding.numpy_generator(seed, "purify", "order").permutation(len(examples)).tolist()
    bare = [replace(examples[index], id=str(number), label=None, target=None) for number, index in enumerate(order)]
    found = dict(zip(order, purifier.purify(bare), strict=True))
    return [
        replace(found[index], example=replace(found[index].example, id=example.id))
        for index, example in enumerate(examples)
    ]


def _purified_row(row: Purified) -> dict[str, object]:
    return {
        "id": row.example.id,
        "code": row.example.code,
        "touched": [[span.field, span.start, span.end] for span in row.touched],
        "detail": row.detail,
    }
