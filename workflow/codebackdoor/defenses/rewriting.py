"""Purified inputs as rows, and the stage of the purifications that do not use a victim."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.defenses import blinding, purification
from codebackdoor.defenses.purification import Purifier
from codebackdoor.defenses.views import TextView
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Purified
from codebackdoor.victims.rows import examples

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.methods import AnyPurification

#: Unpredictable on purpose, so that no method knows which inputs are checked; no output depends on it.
_RANDOM = random.SystemRandom()


def rewrite(
    settings: AnyPurification,
    dataset: AnyDataset,
    valid: Path,
    inputs: Path,
    helpers: Mapping[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Write ``out/purified.jsonl``: the test set ``inputs`` as all victims will read it.

    The method is calibrated on the clean rows of ``valid`` and sees no victim.
    """
    clean = tuple(files.read_examples(valid))
    rows = files.read_mixed(inputs)
    view = TextView.of(dataset, clean, helpers)
    with blinding.nameless():
        purifier = purification.load(settings.method)(view, settings, seed)
        purified = blindly(purifier, {"inputs": examples(rows)})
    write_purified(out / "purified.jsonl", purified["inputs"])


def blindly(purifier: Purifier, testsets: Mapping[str, Sequence[Example]]) -> dict[str, list[Purified]]:
    """Purify each test set in a separate call, in neutral order and without ids, labels and targets.

    No call can learn from another: each uses a copy of ``purifier`` in its initial state. A random twentieth of the
    inputs is first purified one by one, and the results must be the same within the test set. UserError if more than
    one in sixteen differs: rounding explains a few differences, a comparison of rows causes more.
    """
    copies = blinding.Copies(purifier)
    orders = {name: blinding.neutral_order(rows) for name, rows in testsets.items()}
    bare = {
        name: [
            replace(testsets[name][index], id=str(number), label=None, target=None)
            for number, index in enumerate(order)
        ]
        for name, order in orders.items()
    }
    sample = [(name, number) for name, rows in bare.items() for number in _sample(len(rows))]
    _RANDOM.shuffle(sample)
    alone = {(name, number): copies.copy().purify([bare[name][number]])[0] for name, number in sample}
    together = {name: copies.copy().purify(rows) for name, rows in bare.items()}
    _check_independence([(row, together[name][number]) for (name, number), row in alone.items()])
    return {
        name: [
            replace(row, example=replace(row.example, id=testsets[name][index].id))
            for index, row in sorted(zip(order, together[name], strict=True), key=lambda pair: pair[0])
        ]
        for name, order in orders.items()
    }


def _sample(count: int) -> list[int]:
    """A random twentieth of ``count`` rows, at least 16 (or all of fewer) and at most 64."""
    return _RANDOM.sample(range(count), min(count, max(16, min(64, count // 20))))


def _check_independence(pairs: Sequence[tuple[Purified, Purified]]) -> None:
    """Compare the results for inputs purified alone and together; evidence is not compared, since it may be rounded."""
    differing = sum(
        (alone.example.texts, alone.touched) != (together.example.texts, together.touched) for alone, together in pairs
    )
    if differing > len(pairs) / 16:
        raise UserError(
            f"{differing} of {len(pairs)} inputs are rewritten differently alone than together with others: what a "
            "purification makes of an input must depend on that input only"
        )


def write_purified(path: Path, rows: Iterable[Purified]) -> None:
    """Write one row per input: id, its texts, now rewritten, old touched spans (field, start, end), evidence."""
    files.write_rows(path, map(_row, rows))


def _row(row: Purified) -> dict[str, object]:
    touched = [[span.field, span.start, span.end] for span in row.touched]
    texts: dict[str, object] = dict(row.example.texts.items())
    return {"id": row.example.id, **texts, "touched": touched, "detail": row.detail}
