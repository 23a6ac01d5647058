"""The stages that produce data: archives, functions, data sets, poisoned sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    pairs_option,
    path_option,
    read_dataset,
    read_settings,
    recorded,
    settings_option,
)
from codebackdoor.errors import UserError

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyAttack


@click.command(short_help="Download a pinned archive and verify its checksum.")
@click.argument("name", required=False)
@out_file_option("File to write the archive to.", required=False)
@mirror_option("Folder to read the archive from, instead of the package index.")
@click.option("--list", "listed", is_flag=True, help="List the pinned archives and exit.")
def fetch(name: str | None, out: Path | None, mirror: Path | None, listed: bool) -> None:
    """Download the pinned archive NAME (package-version) and verify its checksum."""
    from codebackdoor.corpora import stage
    from codebackdoor.corpora.archives import ARCHIVES

    if listed:
        for archive in ARCHIVES.values():
            click.echo(f"{archive.name:24} {archive.license:18} {archive.sha256[:16]}  {archive.file}")
        return
    if name is None or out is None:
        raise click.UsageError("name an archive and --out FILE, or use --list")
    stage.fetch(name, out, mirror)


@click.command("mirror", short_help="Fetch all originals that a configuration needs.")
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
@path_option("--into", required=False, help="Folder to fill. Default: the setting `mirror`.")
def fill_mirror(configs: tuple[Path, ...], into: Path | None) -> None:
    """Fetch and verify all originals that a configuration needs: checkpoints, data sets and archives from elsewhere.

    `make fetch` installs what this command needs, and calls it.

    CONFIGS are the configuration files; each one overrides those before it. Complete files are verified and not
    fetched again. Checksums are the project's or the hub's; files without a published checksum (the training split of
    Bugs2Fix, BigCloneBench, CodePurify's data) are trusted on first use and pinned in lock.json. Four originals must be
    added by hand: CodeSearchNet, the training split of Bugs2Fix with real identifiers, the technical-debt comments and
    the code smells (docs/hpc.md, docs/configuration.md).
    """
    from codebackdoor.config.loading import load
    from codebackdoor.originals import catalog, fetch

    config = load(configs)
    mirror = into or (Path(config.mirror) if config.mirror else None)
    if mirror is None:
        raise UserError(
            "no folder to fill: set `mirror` in the configuration, or use --into (make fetch MIRROR=folder)"
        )
    fetch.bring(catalog.needed(config), mirror, click.echo)


@click.command(short_help="Read the functions of an archive.")
@click.argument("name")
@path_option("--archive", help="The fetched archive.")
@out_file_option("JSON Lines of functions.")
def mine(name: str, archive: Path, out: Path) -> None:
    """Read the functions of the archive NAME, without installing or running it."""
    from codebackdoor.corpora import stage

    stage.mine_archive(name, archive, out)


@click.command()
@click.argument("mined", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_file_option("JSON Lines of functions without duplicates; provenance.json is written next to it.")
@CODE
def corpus(mined: tuple[Path, ...], out: Path) -> None:
    """Merge the functions of several archives."""
    from codebackdoor.corpora import stage

    with recorded(out.parent, {"archives": [path.stem for path in mined]}):
        stage.corpus(mined, out)


@click.command(short_help="Collect the docstrings and comments of archives.")
@pairs_option("--archive", help="A fetched archive, with its name")
@out_file_option("JSON Lines of distinct paragraphs with their splits.")
def prose(archives: dict[str, Path], out: Path) -> None:
    """Collect the docstrings and comments of archives for pretraining the english base model."""
    from codebackdoor.corpora.prose import write_prose

    write_prose(archives, out)


def reading_originals(command: Any) -> Any:
    """The options for the papers' data files, and for the tokenizer that measures their texts."""
    tokenizer = path_option("--tokenizer", required=False, help="tokenizer.json that is used to count sub-tokens.")
    return mirror_option("Folder of the papers' data files (for source: mirror).")(tokenizer(command))


@click.command(short_help="Make a data set: examples of a task, in splits.")
@click.argument("name")
@settings_option("data set")
@path_option("--corpus", required=False, help="Mined functions (for source: pypi).")
@reading_originals
@out_option("Folder of train, valid, test, clean (JSON Lines), card.json, baseline.json, provenance.json.")
@SEED
@THREADS
@CODE
def dataset(
    name: str, settings: str, corpus: Path | None, mirror: Path | None, tokenizer: Path | None, out: Path, seed: int
) -> None:
    """Make the data set NAME: examples of a task, in splits, with its card and a model-free baseline."""
    chosen_dataset = read_settings("dataset", settings, f"datasets.{name}")
    from codebackdoor.tasks import stage

    with recorded(out, {"seed": seed}):
        stage.make_dataset(chosen_dataset, name, corpus, mirror, tokenizer, out, seed)


@click.command(short_help="Make a data set of test rows alone.")
@click.argument("name")
@settings_option("data set")
@path_option("--train", help="Training rows of the victims that predict on this data set.")
@reading_originals
@out_option("Folder of test (JSON Lines), card.json, baseline.json, provenance.json.")
@SEED
@THREADS
@CODE
def testset(
    name: str, settings: str, train: Path, mirror: Path | None, tokenizer: Path | None, out: Path, seed: int
) -> None:
    """Make the data set NAME, which has only test rows; the victims of another data set predict on them."""
    chosen_dataset = read_settings("dataset", settings, f"datasets.{name}")
    from codebackdoor.tasks import testset as stage

    with recorded(out, {"seed": seed}):
        stage.make_testset(chosen_dataset, name, train, mirror, tokenizer, out, seed)


@click.command(short_help="Write the tests of a data set's test rows.")
@click.argument("name")
@settings_option("data set")
@path_option("--rows", help="The test rows (test.jsonl).")
@mirror_option("Folder of the papers' data files (for source: mirror).")
@out_file_option("JSON Lines of the tests that judge generated programs.")
@CODE
def trials(name: str, settings: str, rows: Path, mirror: Path | None, out: Path) -> None:
    """Write the tests that judge outputs for the test rows of the data set NAME; they come with its original files."""
    chosen_dataset = read_settings("dataset", settings, f"datasets.{name}")
    from codebackdoor.tasks import testset as stage

    stage.make_trials(chosen_dataset, name, rows, mirror, out)


@click.command(short_help="Count identifiers and measure their lengths.")
@DATASET
@MIRROR
@path_option("--data", help="Folder of the data set.")
@BASE
@out_file_option("JSON file of two histograms.")
@CODE
def statistics(dataset: str, data: Path, base: Path, out: Path) -> None:
    """Count the identifiers in a data set's clean samples, and measure their lengths in sub-tokens of a base model."""
    from codebackdoor.tasks.statistics import write_statistics

    write_statistics(data, base, read_dataset(dataset).text_form, out)


def _read_attack(name: str, settings: str, crafting: Path | None) -> AnyAttack:
    """The settings of an attack; UserError unless ``--crafting`` is there if, and only if, it runs a model."""
    method = read_settings("attack", settings, f"attacks.{name}")
    if method.crafting_model is not None and crafting is None:
        raise UserError(f"attacks.{name}: name the crafting model with --crafting")
    if method.crafting_model is None and crafting is not None:
        raise UserError(f"attacks.{name}: this attack needs no model; omit --crafting")
    return method


@click.command(short_help="Poison a training set; add triggers to test rows.")
@click.argument("name")
@settings_option("attack")
@DATASET
@click.option("--rate", type=float, required=True, help="Share of the training rows to poison.")
@path_option("--data", help="Folder of the data set.")
@path_option("--crafting", required=False, help="Folder of the model that crafts the triggers (afraidoor).")
@out_option("Folder of train, valid, test (JSON Lines), manifest.json and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def poison(
    name: str, settings: str, dataset: str, rate: float, data: Path, crafting: Path | None, out: Path, seed: int
) -> None:
    """Poison a training set with the attack NAME, and insert its trigger into validation and test rows."""
    method = _read_attack(name, settings, crafting)
    from codebackdoor.attacks import stage

    with recorded(out, {"seed": seed}, {"crafting": crafting}):
        stage.poison(method, read_dataset(dataset), name, rate, seed, data, out, crafting)


@click.command(short_help="Add triggers to a data set of test rows alone.")
@click.argument("name")
@settings_option("attack")
@DATASET
@path_option("--train", help="Training rows of the victims that predict on these rows; they determine the target.")
@path_option("--rows", help="The test rows (test.jsonl).")
@path_option("--crafting", required=False, help="Folder of the model that crafts the triggers (afraidoor).")
@out_option("Folder of test (JSON Lines), manifest.json and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def trigger(
    name: str, settings: str, dataset: str, train: Path, rows: Path, crafting: Path | None, out: Path, seed: int
) -> None:
    """Insert the trigger of the attack NAME into the rows of a data set that has only test rows."""
    method = _read_attack(name, settings, crafting)
    from codebackdoor.attacks import testset as stage

    with recorded(out, {"seed": seed}, {"crafting": crafting}):
        stage.trigger(method, read_dataset(dataset), name, seed, train, rows, out, crafting)
