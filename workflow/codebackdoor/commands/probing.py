"""The stages that analyze victims with the ground truth, for figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from codebackdoor.commands.options import (
    BASE,
    CODE,
    DATASET,
    GPUS,
    MIRROR,
    SEED,
    SETTINGS,
    THREADS,
    out_option,
    path_option,
    read_dataset,
    read_settings,
    recorded,
    settings_option,
)


def both_testsets(command: Any) -> Any:
    """The options for a triggered test set and for its rows without the trigger."""
    clean = path_option("--clean", help="The same test set without the trigger.")
    return path_option("--triggered", help="Triggered test set.")(clean(command))


@click.command(short_help="Measure a trigger's effect at each identifier.")
@SETTINGS
@DATASET
@path_option("--victim", help="Folder of the victim.")
@both_testsets
@out_option("Folder of positions.json and probe/provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def probe(settings: str, dataset: str, victim: Path, triggered: Path, clean: Path, out: Path, seed: int) -> None:
    """Measure the effects of a trigger and of a perturbation at each identifier of single samples."""
    from codebackdoor.config.loading import parse
    from codebackdoor.config.scenario import PROBE
    from codebackdoor.defenses.elimination.elibadcode import probe as probing
    from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings

    method = parse(EliBadCodeSettings, settings, "--settings")

    with recorded(out / PROBE, {"seed": seed}):
        probing.probe(method, read_dataset(dataset), victim, triggered, clean, out, seed)


@click.command(short_help="Compare hidden states with and without the trigger.")
@settings_option("victim", "--model")
@DATASET
@BASE
@MIRROR
@path_option("--benign", help="Folder of the victim that was trained on clean rows.")
@path_option("--victim", help="Folder of the victim that was trained on poisoned rows.")
@both_testsets
@out_option("Folder of states.json and states/provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def states(
    model: str,
    dataset: str,
    base: Path,
    benign: Path,
    victim: Path,
    triggered: Path,
    clean: Path,
    out: Path,
    seed: int,
) -> None:
    """Compute principal components of the hidden states of inputs with and without the trigger, for three models."""
    recipe, data = read_settings("model", model, "--model"), read_dataset(dataset)
    from codebackdoor.config.scenario import STATES_RECORD
    from codebackdoor.victims import states as module

    with recorded(out / STATES_RECORD, {"seed": seed}):
        module.states(recipe, data, base, benign, victim, triggered, clean, out, seed)
