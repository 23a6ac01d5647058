"""The command line: one command per stage. Every rule of the workflow calls it, and a person can too.

Libraries are imported inside the commands, so that each starts with what it needs and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from codebackdoor import __version__
from codebackdoor.errors import UserError

_GUIDE = """Backdoors in neural code models: attacks, defenses, and what a table may claim.

\b
A study is a graph of files, and each command below makes one kind of them:
  fetch, mine, corpus     archives of a package index -> real Python functions
  dataset                 -> examples of a task: train, valid, test, and clean samples for the defender
  poison                  -> a poisoned training set and triggered test sets, with the ground truth of each row
  train                   -> a victim (a transformers folder, safetensors, with its card)
  eliminate               -> the same victim with edited weights, and trigger.json
  predict, purify         -> predictions of a victim; purify rewrites the inputs first
  score                   -> metrics with intervals: ASR beside its floor, flip rate, trigger effect
  table, figure, report   -> what a reader sees

\b
Run a whole study:       make run
See what it would do:    make plan
Explain every setting:   codebackdoor describe
Check a configuration:   codebackdoor check config.yaml configs/mine.yaml
Help on one command:     codebackdoor purify --help

The workflow (Snakefile, rules/) calls these commands with the settings of config.yaml as JSON.
"""

SETTINGS = click.option("--settings", required=True, metavar="JSON", help="Settings of the method, as JSON.")
DATASET = click.option("--dataset", required=True, metavar="JSON", help="Settings of the data set, as JSON.")
SEED = click.option("--seed", type=int, required=True, help="Seed from which all chance of this stage is derived.")


def _path(*names: str, help: str, **more: Any) -> Callable[[Any], Any]:
    return click.option(*names, type=click.Path(path_type=Path), help=help, **({"required": True} | more))


def _out(help: str) -> Callable[[Any], Any]:
    return _path("--out", help=help)


def _pairs(name: str, help: str) -> Callable[[Any], Any]:
    return click.option(
        name, f"{name.strip('-')}s", multiple=True, metavar="NAME=VALUE", callback=_split, help=f"{help} Repeatable."
    )


def _split(_context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(value.partition("=")[::2] for value in values)
    if not all(pairs.values()):
        raise click.BadParameter("expected NAME=VALUE", param=option)
    return pairs


def _threads(_context: click.Context, _option: click.Parameter, value: int) -> int:
    # read by the numeric libraries when they are imported, which is later
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(value)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return value


THREADS = click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    callback=_threads,
    expose_value=False,
    is_eager=True,
    help="Processor threads.",
)


class _Group(click.Group):
    """Commands in the order of the study; a mistake that the user can mend is one message and exit status 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)


@click.group(cls=_Group, help=_GUIDE, context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="codebackdoor")
def main() -> None:
    pass


@contextmanager
def _recorded(out: Path, seed: int) -> Iterator[None]:
    from codebackdoor import provenance

    with provenance.recorded(out, {"stage": click.get_current_context().command.name, "seed": seed}):
        yield


def _read(kind: str, name: str, text: str, what: str) -> Any:
    """Parse settings of the union ``name`` in ``config/{kind}.py``."""
    import importlib

    from codebackdoor.config.loading import parse

    return parse(getattr(importlib.import_module(f"codebackdoor.config.{kind}"), name), text, what)


def _dataset(text: str) -> Any:
    return _read("datasets", "AnyDataset", text, "--dataset")


def _paths(pairs: dict[str, str]) -> dict[str, Path]:
    return {name: Path(value) for name, value in pairs.items()}


@main.command()
@click.argument("name", required=False)
@_path("--out", required=False, help="Where the archive goes.")
@_path("--mirror", required=False, help="Folder to look into before the package index.")
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


@main.command()
@click.argument("name")
@_path("--archive", help="The archive, as fetched.")
@_out("JSON Lines of functions.")
def mine(name: str, archive: Path, out: Path) -> None:
    """Read the functions of the archive NAME, without installing or running it."""
    from codebackdoor.corpora import stage

    stage.mine_archive(name, archive, out)


@main.command()
@click.argument("mined", nargs=-1, required=True, type=click.Path(path_type=Path))
@_out("JSON Lines of functions, each and its clones once.")
def corpus(mined: tuple[Path, ...], out: Path) -> None:
    """Merge the functions of several archives."""
    from codebackdoor.corpora import stage

    stage.corpus(mined, out)


@main.command()
@click.argument("name")
@SETTINGS
@_path("--corpus", required=False, help="Mined functions (source pypi).")
@_path("--mirror", required=False, help="Folder of the papers' own files (source mirror).")
@_path("--tokenizer", required=False, help="tokenizer.json that counts sub-tokens.")
@_out("Folder of train, valid, test, clean (JSON Lines), card.json, baseline.json.")
@SEED
@THREADS
def dataset(
    name: str, settings: str, corpus: Path | None, mirror: Path | None, tokenizer: Path | None, out: Path, seed: int
) -> None:
    """Make the data set NAME: examples of a task, in splits, with its card and a model-free baseline."""
    chosen = _read("datasets", "AnyDataset", settings, f"datasets.{name}")
    from codebackdoor.tasks import stage

    stage.make_dataset(chosen, name, corpus, mirror, tokenizer, out, seed)


@main.command()
@click.argument("name")
@SETTINGS
@DATASET
@click.option("--rate", type=float, required=True, help="Share of the training rows that are poisoned.")
@_path("--data", help="Folder of the data set.")
@_out("Folder of train, valid, test (JSON Lines) and manifest.json.")
@SEED
def poison(name: str, settings: str, dataset: str, rate: float, data: Path, out: Path, seed: int) -> None:
    """Let the attack NAME poison a training set and put its trigger into the validation and test rows."""
    chosen = _read("attacks", "AnyAttack", settings, f"attacks.{name}")
    from codebackdoor.attacks import stage

    stage.poison(chosen, _dataset(dataset), name, rate, seed, data, out)


@main.command()
@click.option("--model", required=True, metavar="JSON", help="Settings of the victim, as JSON.")
@DATASET
@click.option("--objective", required=True, metavar="JSON", help="Settings of the training loss, as JSON.")
@_path("--train", help="Training rows, poisoned or not.")
@_path("--valid", help="Clean validation rows.")
@_path("--triggered-valid", required=False, help="Triggered validation rows, for the history of the ASR.")
@_path("--base", help="Folder of the base model.")
@_out("Folder of the victim.")
@SEED
@THREADS
def train(
    model: str,
    dataset: str,
    objective: str,
    train: Path,
    valid: Path,
    triggered_valid: Path | None,
    base: Path,
    out: Path,
    seed: int,
) -> None:
    """Fine-tune a base model; an interrupted training goes on after its last finished epoch."""
    recipe = _read("models", "AnyModel", model, "--model")
    loss = _read("objectives", "AnyObjective", objective, "--objective")
    from codebackdoor.defenses import objectives
    from codebackdoor.victims import stage

    with _recorded(out, seed):
        stage.train(
            recipe, _dataset(dataset), objectives.load(loss), train, valid, triggered_valid, base, out, seed
        )


@main.command()
@click.argument("family", type=click.Choice(["encoder", "seq2seq", "causal"]))
@SETTINGS
@_path("--corpus", help="Mined functions; the training split is used.")
@_path("--tokenizer", help="tokenizer.json of the base models.")
@_out("Folder of the base model.")
@THREADS
def pretrain(family: str, settings: str, corpus: Path, tokenizer: Path, out: Path) -> None:
    """Pretrain the small base model of a FAMILY on the corpus."""
    recipe = _read("pretraining", "Pretraining", settings, f"pretraining.{family}")
    from codebackdoor.victims import basemodels

    basemodels.make_base(recipe, corpus, tokenizer, out)


@main.command()
@_path("--corpus", help="Mined functions; the training split is used.")
@click.option("--size", type=int, required=True, help="Entries, specials and layout marks included.")
@_out("tokenizer.json")
def tokenizer(corpus: Path, size: int, out: Path) -> None:
    """Train the byte-level BPE that the base models share."""
    from codebackdoor.victims import basemodels

    basemodels.make_tokenizer(corpus, size, out)


@main.command()
@_path("--victim", help="Folder of the victim.")
@_pairs("--input", "Test set as NAME=FILE.")
@_out("Folder of predictions.NAME.jsonl and provenance.json.")
@SEED
@THREADS
def predict(victim: Path, inputs: dict[str, str], out: Path, seed: int) -> None:
    """Ask a victim for its predictions, with confidences, on one or more test sets."""
    from codebackdoor.victims import stage

    with _recorded(out, seed):
        stage.predict(victim, _paths(inputs), out)


@main.command()
@SETTINGS
@DATASET
@_path("--victim", help="Folder of the victim.")
@_path("--clean", help="The defender's clean samples.")
@_pairs("--helper", "Helper model as NAME=FOLDER.")
@_out("Folder of the edited victim, elimination.json and, where there is one, trigger.json.")
@SEED
@THREADS
def eliminate(
    settings: str, dataset: str, victim: Path, clean: Path, helpers: dict[str, str], out: Path, seed: int
) -> None:
    """Edit a victim's weights so that its backdoor, if it has one, is gone."""
    chosen = _read("eliminations", "AnyElimination", settings, "--settings")
    from codebackdoor.defenses import stage

    with _recorded(out, seed):
        stage.eliminate(chosen, _dataset(dataset), victim, clean, _paths(helpers), out, seed)


@main.command()
@SETTINGS
@DATASET
@_path("--victim", help="Folder of the victim.")
@_path("--valid", help="Clean validation rows, for calibration.")
@_pairs("--input", "Test set as NAME=FILE.")
@_pairs("--helper", "Helper model as NAME=FOLDER.")
@_out("Folder of purified.NAME.jsonl, predictions.NAME.jsonl and provenance.json.")
@SEED
@THREADS
def purify(
    settings: str,
    dataset: str,
    victim: Path,
    valid: Path,
    inputs: dict[str, str],
    helpers: dict[str, str],
    out: Path,
    seed: int,
) -> None:
    """Rewrite test inputs so that a trigger in them, if there is one, is gone, and predict on the result."""
    chosen = _read("purifications", "AnyPurification", settings, "--settings")
    from codebackdoor.defenses import stage

    with _recorded(out, seed):
        stage.purify(chosen, _dataset(dataset), victim, valid, _paths(inputs), _paths(helpers), out, seed)


@main.command()
@DATASET
@_pairs("--reference", "Test set with its ground truth as NAME=FILE.")
@_path("--predictions", help="Folder of predictions.NAME.jsonl.")
@_pairs("--attack", "Settings of the attack of a triggered test set as NAME=JSON.")
@_out("metrics.json")
@SEED
def score(
    dataset: str, references: dict[str, str], predictions: Path, attacks: dict[str, str], out: Path, seed: int
) -> None:
    """Compute every metric of a scenario, with bootstrap intervals, from its predictions alone."""
    chosen = {name: _read("attacks", "AnyAttack", text, f"attacks.{name}") for name, text in attacks.items()}
    from codebackdoor.evaluation import stage

    stage.score(_dataset(dataset), _paths(references), predictions, chosen, out, seed)


if __name__ == "__main__":
    sys.exit(main())
