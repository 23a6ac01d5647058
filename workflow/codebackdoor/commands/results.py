"""The stages that need no model: scores, tables, figures and the report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from codebackdoor.commands.options import (
    CODE,
    DATASET,
    SEED,
    out_file_option,
    out_option,
    pairs_option,
    path_option,
    read_dataset,
    read_settings,
    recorded,
    settings_option,
)
from codebackdoor.config.scenario import AUDIT, EXECUTE, SCORE
from codebackdoor.errors import UserError, nearest, quoted
from codebackdoor.report.products import FIGURES, LISTINGS, WEBPAGES
from codebackdoor.types import CLEAN, TextForm

STUDY = settings_option("experiment")


@click.command(short_help="Compute the metrics of a scenario from its predictions.")
@DATASET
@pairs_option("--reference", "Test set with its ground truth, as NAME=FILE")
@path_option("--predictions", help="Folder of predictions.NAME.jsonl.")
@out_option("Folder of metrics.json and score/provenance.json.")
@SEED
@CODE
def score(dataset: str, references: dict[str, Path], predictions: Path, out: Path, seed: int) -> None:
    """Compute every metric of a scenario, with bootstrap intervals, from its predictions."""
    from codebackdoor.evaluation import stage

    if CLEAN not in references:
        raise UserError(f"score: name the clean test set with --reference {CLEAN}=FILE")
    # in a subfolder, because the provenance.json next to metrics.json belongs to the predictions
    with recorded(out / SCORE, {"seed": seed}):
        stage.score(read_dataset(dataset), references, predictions, out, seed)


@click.command(short_help="Run generated programs with the tests of their rows.")
@click.argument("predictions", type=click.Path(path_type=Path))
@path_option("--tests", help="Tests of the rows (tests.jsonl of a data set).")
@settings_option("execution")
@click.option("--form", type=click.Choice(["lexed", "raw"]), required=True, help="Text form of the data set.")
@out_file_option("JSON Lines of outcomes; execute/provenance.json is written next to it.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Programs run at a time.")
@CODE
def execute(predictions: Path, tests: Path, settings: str, form: TextForm, out: Path, workers: int) -> None:
    """Run every output in PREDICTIONS (predictions.NAME.jsonl) with the tests of its row, isolated from the machine."""
    chosen = read_settings("execution", settings, "execution")
    from codebackdoor.evaluation.execution import stage

    with recorded(out.parent / EXECUTE, {"isolation": chosen.isolation}):
        stage.execute(chosen, predictions, tests, form, out, workers)


@click.command(short_help="Compare what a filter dropped with what is poisoned.")
@path_option("--train", help="Training rows with their provenance, before the filter.")
@path_option("--judged", help="The filter's verdicts on them (judged.jsonl).")
@out_option("Folder of filter.json and audit/provenance.json.")
@CODE
def audit(train: Path, judged: Path, out: Path) -> None:
    """Compute precision, recall and AUROC of a filter from its verdicts and the rows that carry a trigger."""
    from codebackdoor.evaluation import filters

    with recorded(out / AUDIT, {}):
        filters.audit(train, judged, out)


@click.command(short_help="Collect metrics.json files in one CSV and one JSON.")
@click.argument("metrics", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option("Folder of metrics.csv and metrics.json.")
def collect(metrics: tuple[Path, ...], out: Path) -> None:
    """Collect the metrics.json files of many scenarios in one long CSV file, and their values in one JSON file."""
    from codebackdoor.report import export

    export.collect(metrics, out)


@click.command(short_help="Write the result table of an experiment.")
@click.argument("experiment")
@STUDY
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option("Folder of EXPERIMENT.csv, .md and .tex.")
def table(experiment: str, settings: str, inputs: tuple[Path, ...], out: Path) -> None:
    """Write the result table of an EXPERIMENT from metrics.json files, with the papers' values next to ours."""
    from codebackdoor.report import stage

    stage.table(_read_study(settings, experiment), experiment, inputs, out)


@click.command(short_help="Write another table of an experiment.")
@click.argument("experiment")
@click.argument("kind", type=click.Choice(LISTINGS))
@STUDY
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option("Folder of EXPERIMENT.KIND.csv, .md and .tex.")
def listing(experiment: str, kind: str, settings: str, inputs: tuple[Path, ...], out: Path) -> None:
    """Write another table of an EXPERIMENT; `codebackdoor describe experiments` explains each kind."""
    from codebackdoor.report import stage

    stage.listing(_read_study(settings, experiment), experiment, kind, inputs, out)


@click.command()
@click.argument("experiment")
@click.argument("kind", type=click.Choice(FIGURES))
@STUDY
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option("Folder of EXPERIMENT_KIND.svg, .png and .pdf.")
def figure(experiment: str, kind: str, settings: str, inputs: tuple[Path, ...], out: Path) -> None:
    """Draw one kind of figure of an EXPERIMENT."""
    from codebackdoor.report import stage

    stage.figure(_read_study(settings, experiment), experiment, kind, inputs, out)


@click.command(short_help="Write a page of an experiment.")
@click.argument("experiment")
@click.argument("kind", type=click.Choice(WEBPAGES))
@STUDY
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option("Folder of EXPERIMENT.KIND.html.")
def webpage(experiment: str, kind: str, settings: str, inputs: tuple[Path, ...], out: Path) -> None:
    """Write one kind of page of an EXPERIMENT: HTML that needs no other file."""
    from codebackdoor.report import stage

    stage.webpage(_read_study(settings, experiment), experiment, kind, inputs, out)


def _read_study(text: str, experiment: str) -> dict[str, Any]:
    """The settings of a run, or those that the experiment uses, from JSON."""
    from codebackdoor.parsing import parse_json

    settings = parse_json(text, "--settings")
    experiments = settings.get("experiments") if isinstance(settings, dict) else None
    names = experiments if isinstance(experiments, dict) else {}
    if experiment not in names:
        raise UserError(f"--settings: no experiment {quoted(experiment)}{nearest(experiment, names)}")
    return dict(settings)


@click.command("report", short_help="Write the HTML report of a finished run.")
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
def write_report(configs: tuple[Path, ...]) -> None:
    """Write the HTML report of a finished run (report.html in its folder) and print its result tables.

    CONFIGS are the configuration files of the run; each one overrides those before it.
    """
    from dataclasses import asdict

    from codebackdoor.config.loading import load
    from codebackdoor.corpora.archives import archive
    from codebackdoor.report import stage
    from codebackdoor.runs import provenance

    config = load(configs)
    archives = [asdict(archive(name)) for name in config.corpus.archives] if config.corpus else []
    settings = config.model_dump(mode="json")
    command = shlex.join(["codebackdoor", "report", *map(str, configs)])
    stage.html(settings, archives, provenance.commit(), Path(config.out) / "report.html", command)
    click.echo(stage.summary(settings))


@click.command(short_help="Write one page of several finished runs.")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("overlays", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The page, such as runs/report.html."
)
def join(base: Path, overlays: tuple[Path, ...], out: Path) -> None:
    """Write one page about several finished runs: findings, every defense against every attack, and the papers' claims.

    Each of OVERLAYS, on top of the configuration BASE, is one run, whose report must already exist (make run).
    """
    from codebackdoor.config.loading import load
    from codebackdoor.report import stage
    from codebackdoor.runs import provenance

    settings = [load((base, overlay)).model_dump(mode="json") for overlay in overlays]
    command = shlex.join(["codebackdoor", "join", str(base), *map(str, overlays), "--out", str(out)])
    stage.joint(settings, provenance.commit(), out, command)
    click.echo(f"open {out.resolve().as_uri()}")


@click.command(short_help="Insert tables of a run into documentation pages.")
@click.argument("tables", type=click.Path(path_type=Path, file_okay=False))
@click.argument("pages", nargs=-1, required=True, type=click.Path(path_type=Path))
def paste(tables: Path, pages: tuple[Path, ...]) -> None:
    """Replace the tables in Markdown PAGES with the tables of a run (its folder results/tables).

    In a page, NAME.md goes between the lines `<!-- table NAME -->` and `<!-- end of table -->`.
    """
    from codebackdoor.report import pages as pasting

    for page in pages:
        click.echo(f"{page}: {', '.join(pasting.paste(page, tables))}")


@click.command(short_help="Compare two runs: which scenarios differ, and why.")
@click.argument("before", type=click.Path(path_type=Path, file_okay=False))
@click.argument("after", type=click.Path(path_type=Path, file_okay=False))
@click.pass_context
def compare(context: click.Context, before: Path, after: Path) -> None:
    """Compare two runs: which scenarios differ, by how much, and which settings or code changed.

    BEFORE and AFTER are the folders of finished runs (`out`). Exit status 0: every metric is equal; 1: some differ.
    """
    from codebackdoor.report import compare as comparing

    comparison = comparing.compare(before, after)
    click.echo(comparing.as_text(comparison, before, after))
    context.exit(0 if comparison.same else 1)
