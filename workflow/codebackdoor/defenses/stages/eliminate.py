"""The stage of the eliminations: a victim and clean samples in, an edited victim and its trigger out."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.defenses import blinding, elimination
from codebackdoor.defenses.defender_view import defender_view
from codebackdoor.defenses.stages.job import DefenseJob
from codebackdoor.errors import UserError
from codebackdoor.victims.victim import KEY, load_victim, save_victim

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyElimination


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
