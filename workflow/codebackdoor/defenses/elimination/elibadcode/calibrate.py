"""The stage that learns what the label scan finds on benign victims: folders in, a calibration out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from codebackdoor import files
from codebackdoor.defenses.defender_view import defender_view
from codebackdoor.defenses.elimination import SearchContext
from codebackdoor.defenses.elimination.elibadcode import calibration
from codebackdoor.defenses.elimination.elibadcode.method import findings_of
from codebackdoor.errors import UserError
from codebackdoor.victims.victim import load_victim

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings


def calibrate(
    settings: EliBadCodeSettings,
    dataset: AnyDataset,
    victims: Mapping[int, Path],
    clean: Path,
    out: Path,
    code: str | None = None,
) -> None:
    """Write what the label scan reaches on benign victims, given by their training seeds, to the file ``out``.

    A killed calibration of the same ``code`` (its fingerprint) is resumed.
    """
    samples = tuple(files.read_examples(clean))
    losses: dict[str, dict[str, dict[str, float]]] = {}
    make: dict[str, object] = {}
    recipes = [files.read_json(path / "history.json")["recipe"] for path in victims.values()]
    if any(recipe != recipes[0] for recipe in recipes):
        raise UserError("the shadow victims were not all trained by the same recipe; their losses do not compare")
    work = out.parent / f".{out.stem}.progress"
    for seed, path in tqdm(victims.items(), desc="shadow victims", disable=None):
        view = defender_view(load_victim(path), dataset, samples, {})
        make = calibration.model_signature(view.victim)
        by_position = losses.setdefault(f"seed{seed}", {})
        for finding in findings_of(view, settings, seed, SearchContext(work / str(seed), code)):
            by_position.setdefault(finding.position, {})[str(finding.label)] = round(finding.best.loss, 6)
    provenance = {"dataset": dataset.model_dump(mode="json"), "recipe": recipes[0], "victim": make}
    measured = calibration.make(dataset.task, settings, dataset.head, losses, provenance)
    files.write_json(out, calibration.as_json(measured, settings.ratio))
    shutil.rmtree(work, ignore_errors=True)
