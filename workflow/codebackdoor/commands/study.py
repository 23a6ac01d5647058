"""Commands about a whole study: check its configuration, explain settings, say what a run would cost."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command(short_help="Check configuration files and the files that they name.")
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(configs: tuple[Path, ...]) -> None:
    """Check configuration files, each laid over the ones before it, and that the files they name are there."""
    from codebackdoor.config.loading import load
    from codebackdoor.dag import Dag

    config = load(configs)
    Dag(config).check_files(configs)
    names = ", ".join(config.experiments)
    click.echo(
        f"{len(config.scenarios())} scenarios in {len(config.experiments)} experiments ({names}): no mistake found"
    )


@click.command(short_help="Explain settings: meaning, paper's value, default.")
@click.argument("path", required=False)
def describe(path: str | None) -> None:
    """Explain settings: every key with its meaning, unit, the paper's value and the default.

    PATH is a section (purifications) or a method (codepurify); without it everything is printed.
    """
    from codebackdoor.config import describing

    click.echo(describing.describe(path) if path else describing.defaults())


@click.command(short_help="Write the JSON schema and the annotated defaults.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--check", "only_check", is_flag=True, help="Write nothing; fail where a file is out of date.")
def schema(folder: Path, only_check: bool) -> None:
    """Write the JSON schema and the annotated defaults of the configuration into FOLDER."""
    from codebackdoor.config import describing
    from codebackdoor.errors import UserError
    from codebackdoor.files import atomic

    for name, text in {"config.schema.json": describing.schema(), "defaults.yaml": describing.defaults()}.items():
        path = folder / name
        if not only_check:
            with atomic(path) as stream:
                stream.write(text)
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            raise UserError(f"{path} is out of date; run `make schema`")


@click.command(short_help="Say what a run would do and cost.")
@click.argument("configs", nargs=-1, type=click.Path(path_type=Path))
def plan(configs: tuple[Path, ...]) -> None:
    """Say what a run would do and cost; reads the output of `snakemake --dry-run` (see `make plan`).

    CONFIGS are the configuration files of the run, each laid over the ones before it. Where they name hub checkpoints,
    the whole study's GPU hours are computed from them instead: nothing needs to be there for that.
    """
    from codebackdoor.config.loading import load
    from codebackdoor.costs import bill, local, paper
    from codebackdoor.dag import LONGEST

    # read to its end in either case, or Snakemake fails on a closed pipe
    dry_run = "" if sys.stdin.isatty() else sys.stdin.read()
    config = load(configs) if configs else None
    click.echo(paper.plan(config, LONGEST / 60) if config and bill.uses_hub(config) else local.plan(dry_run, config))


@click.command(short_help="End the jobs that a killed Snakemake left behind.")
@click.option("--wait", "only_wait", is_flag=True, help="Let them finish instead: what they make is then kept.")
def orphans(only_wait: bool) -> None:
    """End the jobs that a killed Snakemake left behind, on this machine and on the cluster, and wait for their end.

    They are those of this folder. A Snakemake that is alive is left alone: end it with Ctrl-C, which ends its jobs.
    `make settle` does this and also removes Snakemake's lock.
    """
    from codebackdoor import cluster, processes

    here = Path.cwd()
    processes.check_nobody_runs(here)
    running, queued = processes.orphans(here), cluster.jobs(here)
    for orphan in running:
        click.echo(f"process {orphan.pid}  {orphan.command}")
    for job in queued:
        click.echo(f"job {job.id}  {job.state.lower():10}  {job.comment}")
    if not only_wait:
        cluster.cancel(queued)
        processes.end(running)
    processes.wait(running)
    cluster.wait(here, [job.id for job in queued])
    count = len(running) + len(queued)
    what = "finished" if only_wait else "ended"
    click.echo(f"{count} job{'s' * (count != 1)} {what}" if count else "no job of this folder is left")


@click.command(short_help="Write what Snakemake knows of a run's files beside them.")
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
def keep_records(configs: tuple[Path, ...]) -> None:
    """Write what Snakemake knows of a run's files beside them, so that it travels with the run (see `make push`).

    CONFIGS are the configuration files of the run, each laid over the ones before it.
    """
    from codebackdoor import records

    out = _out(configs)
    click.echo(f"{records.keep(out)} records in {out / records.NAME}")


@click.command(short_help="Tell Snakemake what it knew of a run made elsewhere.")
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
def restore_records(configs: tuple[Path, ...]) -> None:
    """Tell Snakemake what it knew of the files of a run that was made elsewhere (see `make pull`).

    CONFIGS are the configuration files of the run, each laid over the ones before it.
    """
    from codebackdoor import records

    out = _out(configs)
    click.echo(f"{records.restore(out)} records of {out} restored")


def _out(configs: tuple[Path, ...]) -> Path:
    """The folder of the run that configuration files describe."""
    from codebackdoor.config.loading import load

    return Path(load(configs).out)
