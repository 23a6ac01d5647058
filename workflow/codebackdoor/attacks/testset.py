"""The stage that adds triggers to a data set that has only test rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import attacks, files, seeding
from codebackdoor.attacks import poisoning
from codebackdoor.attacks.target import target_of

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.methods import AnyAttack


def trigger(
    settings: AnyAttack,
    dataset: AnyDataset,
    name: str,
    seed: int,
    train: Path,
    rows: Path,
    out: Path,
    crafting: Path | None = None,
) -> None:
    """Write ``out/test.jsonl``, the rows with the trigger, and ``out/manifest.json``.

    The target is derived from ``train``, the training rows of the victims that predict on these rows. ``crafting`` is
    the model folder of an attack that runs a model. UserError for malformed rows and if no row takes the trigger.
    """
    examples = files.read_examples(rows)
    target = target_of(settings, files.read_examples(train), dataset.text_form)
    poisoner = poisoning.Poisoner(name, attacks.load(settings, crafting), target, dataset.text_form, seed)
    generator = seeding.numpy_generator(seed, "poison", name, "test")
    drawn = poisoning.draw_triggered(examples, poisoner, settings.test_share, generator)
    poisoning.require_injected(drawn, poisoner, examples, str(rows))
    files.write_rows(out / "test.jsonl", map(files.poisoned_row, poisoning.triggered(drawn)))
    manifest = {
        "attack": name,
        "settings": settings.model_dump(),
        "seed": seed,
        "counts": {"test": drawn.counts},
    }
    files.write_json(out / "manifest.json", manifest)
