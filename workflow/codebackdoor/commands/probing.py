"""The stage that tests an assumption of a method with the ground truth."""

from __future__ import annotations

from pathlib import Path

import click

from codebackdoor.commands.options import (
    CODE,
    DATASET,
    GPUS,
    SEED,
    SETTINGS,
    THREADS,
    out_option,
    path_option,
    read_dataset,
    read_settings,
    recorded,
)


@click.command(short_help="Measure a trigger's effect at each identifier.")
@SETTINGS
@DATASET
@path_option("--victim", help="Folder of the victim.")
@path_option("--triggered", help="Triggered test set.")
@path_option("--clean", help="The same test set without the trigger.")
@out_option("Folder of positions.json and probe/provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def probe(settings: str, dataset: str, victim: Path, triggered: Path, clean: Path, out: Path, seed: int) -> None:
    """Measure the effects of a trigger and of a perturbation at each identifier of single samples."""
    method = read_settings("methods", "EliBadCodeSettings", settings, "--settings")
    from codebackdoor.config.scenario import PROBE
    from codebackdoor.defenses.elimination.elibadcode import probe as probing

    with recorded(out / PROBE, {"seed": seed}):
        probing.probe(method, read_dataset(dataset), victim, triggered, clean, out, seed)
