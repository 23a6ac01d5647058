"""The poisoning stage: reads a data set and writes a poisoned training set, triggered test sets and the manifest."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import attacks, files, seeding
from codebackdoor.attacks import poisoning
from codebackdoor.attacks.target import target_of
from codebackdoor.types import Example, Poisoned

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.methods import AnyAttack

log = logging.getLogger(__name__)


def poison(
    settings: AnyAttack,
    dataset: AnyDataset,
    name: str,
    rate: float,
    seed: int,
    data: Path,
    out: Path,
    crafting: Path | None = None,
) -> None:
    """Write ``out/{train,valid,test}.jsonl`` and ``out/manifest.json`` from the splits in ``data``.

    ``train`` contains all rows in their order: injected ones with provenance, the others byte for byte unchanged.
    ``valid`` and ``test`` contain the rows without the target (code search: all rows), with their status. ``name`` is
    the name of the attack variant, ``crafting`` the model folder of an attack that runs a model.
    Raises UserError for malformed rows, for an impossible rate or target, and if no row at all takes the trigger.
    """
    splits = {split: files.read_examples(data / f"{split}.jsonl") for split in ("train", "valid", "test")}
    target = target_of(settings, [row for rows in splits.values() for row in rows], dataset.text_form)
    poisoner = poisoning.Poisoner(name, attacks.load(settings, crafting), target, dataset.text_form, seed)
    draws = {}
    for split, rows in splits.items():
        generator = seeding.numpy_generator(seed, "poison", name, split)
        if split == "train":
            draws[split] = poisoning.draw_training(rows, poisoner, rate, settings.rate_of, generator, settings.failed)
        else:
            draws[split] = poisoning.draw_triggered(rows, poisoner, settings.test_share, generator)
        poisoning.require_injected(draws[split], poisoner, rows, f"{data / split}.jsonl")
    counts = draws["train"].counts
    if counts["injected"] + (counts["failed"] if settings.failed == "flip" else 0) < counts["requested"]:
        log.warning(
            "%s: %d %s requested, but only %d of the %d eligible ones take the trigger; all of these are poisoned",
            name,
            counts["requested"],
            "functions" if settings.rate_of == "functions" else "rows",
            counts["injected"],
            counts["eligible"],
        )
    _write_training(data / "train.jsonl", poisoning.merged(splits["train"], draws["train"]), out / "train.jsonl")
    for split in ("valid", "test"):
        files.write_rows(out / f"{split}.jsonl", map(files.poisoned_row, poisoning.triggered(draws[split])))
    manifest = {
        "attack": name,
        "settings": settings.model_dump(),
        "rate": rate,
        "seed": seed,
        "counts": {split: drawn.counts for split, drawn in draws.items()},
    }
    files.write_json(out / "manifest.json", manifest)


def _write_training(source: Path, rows: Sequence[Example | Poisoned], out: Path) -> None:
    """Write poisoned rows and copy the lines of the others verbatim, with their spacing and key order."""
    lines = [line for line in source.read_bytes().split(b"\n") if line.strip()]
    with files.atomic(out, "wb") as stream:
        for line, row in zip(lines, rows, strict=True):
            if isinstance(row, Poisoned):
                line = json.dumps(files.poisoned_row(row), allow_nan=False, ensure_ascii=False).encode()
            stream.write(line + b"\n")
