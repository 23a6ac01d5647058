"""The stages of the defenses that need a trained victim: files in, files out."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.defenses import blinding, elimination, purification
from codebackdoor.defenses.defender_view import defender_view
from codebackdoor.defenses.job import DefenseJob
from codebackdoor.defenses.rewriting import blindly, write_purified
from codebackdoor.errors import UserError
from codebackdoor.types import Example, Poisoned
from codebackdoor.victims.predictions import write_predictions
from codebackdoor.victims.rows import examples, rewritten
from codebackdoor.victims.victim import KEY, load_victim, save_victim

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyElimination, AnyPurification


def eliminate(
    settings: AnyElimination, job: DefenseJob, code: str | None = None, inverted: Path | None = None
) -> dict[str, float]:
    """Write the edited victim, with ``trigger.json``: the inverted trigger, or null if the method has none.

    Returns the seconds of each phase.

    ``elimination.json`` records the steps of the method. The edited victim keeps the card of the original one. A killed
    run of the same ``code`` (its fingerprint) is resumed from a hidden folder next to the results. ``inverted`` is the
    folder of an elimination with the same search settings on the same victim; its trigger or search trajectories, and
    the seconds of its search, are reused. UserError if the method inverts no trigger.
    """
    if inverted is not None and not settings.inverts:
        raise UserError(f"{settings.method} inverts no trigger; leave out --inverted")
    loaded, out = load_victim(job.victim), job.out
    card = getattr(loaded.model.config, KEY)
    view = defender_view(loaded, job.dataset, tuple(files.read_examples(job.clean)), job.helpers)
    work = out.parent / f".{out.name}.progress"
    reused = elimination.Inversion.read(inverted) if inverted else None
    with blinding.nameless(), blinding.unnamed(work) as unnamed_work:
        result = elimination.load(settings.method)(
            view, settings, job.seed, elimination.SearchContext(unnamed_work, code, reused)
        )
    card = {key: value for key, value in card.items() if not hasattr(loaded, key)}
    save_victim(result.victim, out, card | {"elimination": settings.model_dump(mode="json")})
    trigger = None if result.trigger is None else asdict(result.trigger)
    files.write_json(out / "trigger.json", trigger)
    files.write_json(out / "elimination.json", result.history)
    shutil.rmtree(work, ignore_errors=True)
    seconds = {**(reused.seconds if reused else {}), **result.seconds}
    return {phase: round(value, 2) for phase, value in seconds.items()}


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
