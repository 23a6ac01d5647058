"""The stages of the defenses that need a trained victim: files in, files out (DESIGN section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files, seeding
from codebackdoor.defenses import elimination, purification
from codebackdoor.defenses.purification import Purifier
from codebackdoor.defenses.view import defender_view
from codebackdoor.types import Example, Poisoned, Purified
from codebackdoor.victims import inference
from codebackdoor.victims.predictions import write_predictions
from codebackdoor.victims.victim import KEY, load_victim, save_victim

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.eliminations import AnyElimination
    from codebackdoor.config.purifications import AnyPurification


def eliminate(
    settings: AnyElimination,
    dataset: AnyDataset,
    victim: Path,
    clean: Path,
    helpers: Mapping[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Write the edited victim to ``out``, with ``elimination.json``: the inverted trigger, or null, and the history.

    ``clean`` holds the defender's clean samples. The edited victim keeps the card of the one that it was made from.
    """
    asked = load_victim(victim)
    card = getattr(asked.model.config, KEY)
    view = defender_view(asked, dataset, tuple(files.read_examples(clean)), helpers)
    found = elimination.load(settings.method)(view, settings, seed)
    card = {key: value for key, value in card.items() if not hasattr(asked, key)}
    save_victim(found.victim, out, card | {"elimination": settings.model_dump(mode="json")})
    trigger = None if found.trigger is None else asdict(found.trigger)
    files.write_json(out / "elimination.json", {"trigger": trigger, **found.history})


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
    view = defender_view(asked, dataset, clean, helpers)
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
