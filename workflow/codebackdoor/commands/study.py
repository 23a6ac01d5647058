"""Commands about a whole study: check its configuration, explain settings, say what a run would cost."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(configs: tuple[Path, ...]) -> None:
    """Check configuration files, each laid over the ones before it, and that the files they name are there."""
    from codebackdoor.config.loading import load
    from codebackdoor.dag import Dag

    config = load(configs)
    Dag(config).check_files()
    names = ", ".join(config.experiments)
    click.echo(
        f"{len(config.scenarios())} scenarios in {len(config.experiments)} experiments ({names}): no mistake found"
    )


@click.command()
@click.argument("path", required=False)
def describe(path: str | None) -> None:
    """Explain settings: every key with its meaning, unit, the paper's value and the default.

    PATH is a section (purifications) or a method (codepurify); without it everything is printed.
    """
    from codebackdoor.config import describing

    click.echo(describing.describe(path) if path else describing.defaults())


@click.command()
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


@click.command()
@click.argument("configs", nargs=-1, type=click.Path(path_type=Path))
def plan(configs: tuple[Path, ...]) -> None:
    """Say what a run would do and cost; reads the output of `snakemake --dry-run --quiet` (see `make plan`).

    CONFIGS are the configuration files of the run, each laid over the ones before it. Where they name hub checkpoints,
    the whole study's GPU hours are computed from them instead: nothing needs to be there for that.
    """
    from codebackdoor.config.loading import load
    from codebackdoor.costs import local, paper

    # read to its end in either case, or Snakemake fails on a closed pipe
    dry_run = "" if sys.stdin.isatty() else sys.stdin.read()
    config = load(configs) if configs else None
    click.echo(paper.plan(config) if config and paper.uses_hub(config) else local.plan(dry_run))


@click.command()
@click.option("--wait", "only_wait", is_flag=True, help="Let them finish instead: what they make is then kept.")
def orphans(only_wait: bool) -> None:
    """Cancel what a killed Snakemake left running on the cluster, in this folder, and wait until it is gone.

    Not for a Snakemake that is still alive: end that with Ctrl-C, which cancels its jobs. `make settle` also unlocks.
    """
    from codebackdoor import cluster

    here = Path.cwd()
    found = cluster.jobs(here)
    for job in found:
        click.echo(f"{job.id}  {job.state.lower():10}  {job.comment}")
    if not only_wait:
        cluster.cancel(found)
    cluster.wait(here, [job.id for job in found])
    what = "finished" if only_wait else "cancelled"
    click.echo(f"{len(found)} job{'s' * (len(found) != 1)} {what}" if found else "no job of this folder is left")
