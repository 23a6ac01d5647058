"""The stages that make data: archives, functions, data sets, poisoned sets."""

from __future__ import annotations

from pathlib import Path

import click

from codebackdoor.commands.options import (
    DATASET,
    SEED,
    SETTINGS,
    THREADS,
    out_option,
    path_option,
    read_dataset,
    read_settings,
)


@click.command()
@click.argument("name", required=False)
@path_option("--out", required=False, help="Where the archive goes.")
@path_option("--mirror", required=False, help="Folder to look into before the package index.")
@click.option("--list", "listed", is_flag=True, help="List the pinned archives instead.")
def fetch(name: str | None, out: Path | None, mirror: Path | None, listed: bool) -> None:
    """Download the pinned archive NAME (package-version) and verify its checksum."""
    from codebackdoor.corpora import stage
    from codebackdoor.corpora.archives import ARCHIVES

    if listed:
        for one in ARCHIVES.values():
            click.echo(f"{one.name:24} {one.licence:18} {one.sha256[:16]}  {one.file}")
        return
    if name is None or out is None:
        raise click.UsageError("name an archive and --out FILE, or write --list")
    stage.fetch(name, out, mirror)


@click.command()
@click.argument("name")
@path_option("--archive", help="The archive, as fetched.")
@out_option("JSON Lines of functions.")
def mine(name: str, archive: Path, out: Path) -> None:
    """Read the functions of the archive NAME, without installing or running it."""
    from codebackdoor.corpora import stage

    stage.mine_archive(name, archive, out)


@click.command()
@click.argument("mined", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option("JSON Lines of functions, each and its clones once.")
def corpus(mined: tuple[Path, ...], out: Path) -> None:
    """Merge the functions of several archives."""
    from codebackdoor.corpora import stage

    stage.corpus(mined, out)


@click.command()
@click.argument("name")
@SETTINGS
@path_option("--corpus", required=False, help="Mined functions (source pypi).")
@path_option("--mirror", required=False, help="Folder of the papers' own files (source mirror).")
@path_option("--tokenizer", required=False, help="tokenizer.json that counts sub-tokens.")
@out_option("Folder of train, valid, test, clean (JSON Lines), card.json, baseline.json.")
@SEED
@THREADS
def dataset(
    name: str, settings: str, corpus: Path | None, mirror: Path | None, tokenizer: Path | None, out: Path, seed: int
) -> None:
    """Make the data set NAME: examples of a task, in splits, with its card and a model-free baseline."""
    chosen = read_settings("datasets", "AnyDataset", settings, f"datasets.{name}")
    from codebackdoor.tasks import stage

    stage.make_dataset(chosen, name, corpus, mirror, tokenizer, out, seed)


@click.command()
@click.argument("name")
@SETTINGS
@DATASET
@click.option("--rate", type=float, required=True, help="Share of the training rows that are poisoned.")
@path_option("--data", help="Folder of the data set.")
@out_option("Folder of train, valid, test (JSON Lines) and manifest.json.")
@SEED
def poison(name: str, settings: str, dataset: str, rate: float, data: Path, out: Path, seed: int) -> None:
    """Let the attack NAME poison a training set and put its trigger into the validation and test rows."""
    chosen = read_settings("attacks", "AnyAttack", settings, f"attacks.{name}")
    from codebackdoor.attacks import stage

    stage.poison(chosen, read_dataset(dataset), name, rate, seed, data, out)
