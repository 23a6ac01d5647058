"""The stages that need no model: scores, tables, figures and the report."""

from __future__ import annotations

from pathlib import Path

import click

from codebackdoor.commands.options import DATASET, SEED, out_option, pairs_option, path_option, read_dataset


@click.command()
@DATASET
@pairs_option("--reference", "Test set with its ground truth as NAME=FILE.")
@path_option("--predictions", help="Folder of predictions.NAME.jsonl.")
@out_option("Folder of metrics.json.")
@SEED
def score(dataset: str, references: dict[str, Path], predictions: Path, out: Path, seed: int) -> None:
    """Compute every metric of a scenario, with bootstrap intervals, from its predictions alone."""
    from codebackdoor.evaluation import stage

    stage.score(read_dataset(dataset), references, predictions, out, seed)
