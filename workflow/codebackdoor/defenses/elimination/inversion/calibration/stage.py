"""The stage that scans benign victims and writes the calibration of a label scan."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from codebackdoor import files
from codebackdoor.defenses.defender_view import defender_view
from codebackdoor.defenses.elimination import NO_CONTEXT, SearchContext, load_scanner
from codebackdoor.defenses.elimination.inversion.calibration import losses
from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.errors import UserError
from codebackdoor.victims.victim import load_victim

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset


def calibrate(
    settings: CalibratedSettings,
    dataset: AnyDataset,
    victims: Mapping[int, Path],
    clean: Path,
    out: Path,
    code: str | None = None,
) -> None:
    """Write the losses of the label scan on benign victims (folders by training seed) to the file ``out``.

    A killed calibration of the same ``code`` (its fingerprint) is resumed.
    """
    samples = tuple(files.read_examples(clean))
    scans: dict[str, losses.Losses] = {}
    make: dict[str, object] = {}
    recipes = [files.read_json(path / "history.json")["recipe"] for path in victims.values()]
    if any(recipe != recipes[0] for recipe in recipes):
        raise UserError("the shadow victims were not all trained by the same recipe; their losses do not compare")
    work = out.parent / f".{out.stem}.progress"
    for seed, path in tqdm(victims.items(), desc="shadow victims", disable=None):
        view = defender_view(load_victim(path), dataset, samples, {})
        make = losses.model_signature(view.victim)
        scans[f"seed{seed}"] = scanned(view, settings, seed, SearchContext(work / str(seed), code))
    provenance = {"dataset": dataset.model_dump(mode="json"), "recipe": recipes[0], "victim": make}
    calibration = losses.make(dataset.task, settings, dataset.head, scans, provenance)
    files.write_json(out, losses.as_json(calibration, settings.ratio))
    shutil.rmtree(work, ignore_errors=True)


def scanned(
    view: DefenderView, settings: CalibratedSettings, seed: int, context: SearchContext = NO_CONTEXT
) -> losses.Losses:
    """The losses of a benign victim as a calibration holds them."""
    scan = load_scanner(settings).scan_losses(view, settings, seed, context)
    return {
        position: {label: round(loss, 6) for label, loss in by_label.items()} for position, by_label in scan.items()
    }
