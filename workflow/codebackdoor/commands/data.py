"""The stages that make data: archives, functions, data sets, poisoned sets."""

from __future__ import annotations

from pathlib import Path

import click

from codebackdoor.commands.options import (
    BASE,
    CODE,
    DATASET,
    GPUS,
    MIRROR,
    SEED,
    THREADS,
    mirror_option,
    out_file_option,
    out_option,
    path_option,
    read_dataset,
    read_settings,
    recorded,
    settings_option,
)
from codebackdoor.errors import UserError


@click.command(short_help="Download a pinned archive and verify its checksum.")
@click.argument("name", required=False)
@out_file_option("Where the archive goes.", required=False)
@mirror_option("Folder to take it from, instead of the package index.")
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


@click.command("mirror", short_help="Fetch all originals that a configuration needs.")
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
@path_option("--into", required=False, help="The folder, instead of the one that the setting `mirror` names.")
def fill_mirror(configs: tuple[Path, ...], into: Path | None) -> None:
    """Fetch all originals that a configuration needs: checkpoints, data sets, archives, each verified.

    CONFIGS are its files, each laid over the ones before it. What is whole already is verified and not fetched again.
    A file is verified by the project's own checksum, or the hub's; one that has neither (Bugs2Fix's training split,
    BigCloneBench) is trusted on first use, then by lock.json. CodeSearchNet is put there by hand (docs/hpc.md).
    """
    from codebackdoor.config.loading import load
    from codebackdoor.originals import catalog, fetch

    config = load(configs)
    mirror = into or (Path(config.mirror) if config.mirror else None)
    if mirror is None:
        raise UserError("name the folder: as the setting `mirror`, or with make fetch MIRROR=folder (--into)")
    fetch.bring(catalog.needed(config), mirror, click.echo)


@click.command(short_help="Read the functions of an archive.")
@click.argument("name")
@path_option("--archive", help="The archive, as fetched.")
@out_file_option("JSON Lines of functions.")
def mine(name: str, archive: Path, out: Path) -> None:
    """Read the functions of the archive NAME, without installing or running it."""
    from codebackdoor.corpora import stage

    stage.mine_archive(name, archive, out)


@click.command()
@click.argument("mined", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_file_option("JSON Lines of functions, each and its clones once; provenance.json lies beside it.")
@CODE
def corpus(mined: tuple[Path, ...], out: Path) -> None:
    """Merge the functions of several archives."""
    from codebackdoor.corpora import stage

    with recorded(out.parent, {"archives": [path.stem for path in mined]}):
        stage.corpus(mined, out)


@click.command(short_help="Make a data set: examples of a task, in splits.")
@click.argument("name")
@settings_option("data set")
@path_option("--corpus", required=False, help="Mined functions (source pypi).")
@mirror_option("Folder of the papers' own files (source mirror).")
@path_option("--tokenizer", required=False, help="tokenizer.json that counts sub-tokens.")
@out_option("Folder of train, valid, test, clean (JSON Lines), card.json, baseline.json, provenance.json.")
@SEED
@THREADS
@CODE
def dataset(
    name: str, settings: str, corpus: Path | None, mirror: Path | None, tokenizer: Path | None, out: Path, seed: int
) -> None:
    """Make the data set NAME: examples of a task, in splits, with its card and a model-free baseline."""
    chosen = read_settings("datasets", "AnyDataset", settings, f"datasets.{name}")
    from codebackdoor.tasks import stage

    with recorded(out, {"seed": seed}):
        stage.make_dataset(chosen, name, corpus, mirror, tokenizer, out, seed)


@click.command(short_help="Count identifiers and measure their lengths.")
@DATASET
@MIRROR
@path_option("--data", help="Folder of the data set.")
@BASE
@out_file_option("JSON of two histograms.")
@CODE
def statistics(dataset: str, data: Path, base: Path, out: Path) -> None:
    """Count the identifiers in a data set's clean samples, and their lengths in a base model's sub-tokens."""
    from codebackdoor.tasks.statistics import write_statistics

    write_statistics(data, base, read_dataset(dataset).text_form, out)


@click.command(short_help="Poison a training set, trigger validation and test rows.")
@click.argument("name")
@settings_option("attack")
@DATASET
@click.option("--rate", type=float, required=True, help="Share of the training rows that are poisoned.")
@path_option("--data", help="Folder of the data set.")
@path_option("--crafting", required=False, help="Folder of the model by which triggers are crafted (afraidoor).")
@out_option("Folder of train, valid, test (JSON Lines), manifest.json and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def poison(
    name: str, settings: str, dataset: str, rate: float, data: Path, crafting: Path | None, out: Path, seed: int
) -> None:
    """Let the attack NAME poison a training set and put its trigger into the validation and test rows."""
    chosen = read_settings("methods", "AnyAttack", settings, f"attacks.{name}")
    from codebackdoor.attacks import stage

    if hasattr(chosen, "crafting") != (crafting is not None):
        what = "name its model with --crafting" if crafting is None else "it asks no model; leave out --crafting"
        raise UserError(f"attacks.{name}: {what}")
    with recorded(out, {"seed": seed}, {"crafting": crafting}):
        stage.poison(chosen, read_dataset(dataset), name, rate, seed, data, out, crafting)
