"""Commands about a whole study: check its configuration, explain settings, estimate the costs of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command(short_help="Check configuration files and the files that they name.")
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(configs: tuple[Path, ...]) -> None:
    """Check configuration files and the files that they name; each configuration file overrides those before it.

    The rows of your own data sets are checked, too. If the run has results, victims that did not learn their backdoor
    or that predict a single label are reported.

    Example: codebackdoor check config.yaml mine.yaml. Exit status: 0 without problems, else 2, with a list of them;
    names and files are checked once the keys are right.
    """
    from codebackdoor.config.loading import load
    from codebackdoor.dag import Dag
    from codebackdoor.errors import UserError
    from codebackdoor.report.doubts import doubts
    from codebackdoor.report.study import Study

    config = load(configs)
    dag, problems = Dag(config), list[str]()
    try:
        dag.check_files(configs)
    except UserError as error:
        problems += str(error).splitlines()
    problems += dag.check_rows()
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    settings = config.model_dump(mode="json")
    for doubt in dict.fromkeys(doubt for name in config.experiments for doubt in doubts(Study(settings, name))):
        click.echo(f"Warning, from the results in {config.out}: {doubt}")
    names = ", ".join(config.experiments)
    count = len(config.experiments)
    click.echo(
        f"{len(config.scenarios())} scenarios in {count} experiment{'s' * (count != 1)} ({names}): no problems found"
    )


@click.command(short_help="Explain settings: meaning, paper's value, default.")
@click.argument("path", required=False)
@click.argument("configs", nargs=-1, type=click.Path(path_type=Path))
def describe(path: str | None, configs: tuple[Path, ...]) -> None:
    """Explain settings: every key with its meaning, unit, the paper's value and the default.

    PATH is a section (purifications), a method (codepurify), or `all`. Without PATH, sections and methods are listed.
    With CONFIGS, PATH is a variant that these configuration files declare, and its settings are shown.
    """
    from codebackdoor.config import describing, index
    from codebackdoor.config.loading import load
    from codebackdoor.config.sections import SECTIONS
    from codebackdoor.errors import UserError, nearest

    if path is None:
        click.echo(index.index())
    elif configs:
        config = load(configs)
        text = index.variant(config, path)
        if text is None:
            variants = (name for section in SECTIONS.values() for name in getattr(config, section))
            raise UserError(f"no variant {path!r} in {', '.join(map(str, configs))}{nearest(path, variants)}")
        click.echo(text)
    else:
        click.echo(describing.defaults() if path == "all" else describing.describe(path))


@click.command(short_help="Write the JSON schema and the annotated defaults.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--check", "only_check", is_flag=True, help="Write nothing; fail if a file is out of date.")
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


@click.command(short_help="Write the table of methods into a page of the docs.")
@click.argument("page", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--check", "only_check", is_flag=True, help="Write nothing; fail if the table is out of date.")
def methods(page: Path, only_check: bool) -> None:
    """Write the table of all methods (kind, heads, requirements, cost, paper) into the Markdown file PAGE.

    It goes between the lines `<!-- table methods -->` and `<!-- end of table -->`.
    """
    from codebackdoor.config.describing import methods_table
    from codebackdoor.costs.methods import gpu_minutes
    from codebackdoor.errors import UserError
    from codebackdoor.files import atomic, read_text
    from codebackdoor.report.pages import with_tables

    text, table = read_text(page), methods_table(gpu_minutes)
    current = with_tables(text, {"methods": table})
    if table not in current:
        raise UserError(f"{page}: no table of methods; mark it with <!-- table methods --> and <!-- end of table -->")
    if not only_check:
        with atomic(page) as stream:
            stream.write(current)
    elif current != text:
        raise UserError(f"the table in {page} is out of date; run `make schema`")


@click.command(short_help="Estimate the jobs and costs of a run.")
@click.argument("configs", nargs=-1, type=click.Path(path_type=Path))
def plan(configs: tuple[Path, ...]) -> None:
    """Estimate the jobs and costs of a run. Use `make plan`: this command reads the output of `snakemake --dry-run`.

    CONFIGS are the configuration files of the run; each one overrides those before it. If they name hub checkpoints,
    the GPU hours of the whole study are computed from the configuration alone.
    """
    from codebackdoor.config.loading import load
    from codebackdoor.costs import bill, local, paper
    from codebackdoor.dag.resources import MAX_RUNTIME

    # read to the end in any case, because Snakemake fails on a closed pipe
    dry_run = "" if sys.stdin.isatty() else sys.stdin.read()
    config = load(configs) if configs else None
    if config and bill.uses_hub(config):
        click.echo(paper.plan(config, MAX_RUNTIME / 60))
    else:
        click.echo(local.plan(dry_run, config))


@click.command(short_help="End the jobs that a killed Snakemake left behind.")
@click.option("--wait", "only_wait", is_flag=True, help="Let the jobs finish instead, and keep their results.")
def orphans(only_wait: bool) -> None:
    """End the jobs that a killed Snakemake started from this folder, on this machine and on the cluster.

    Returns when they have ended. The jobs of a running Snakemake are left alone: stop it with Ctrl-C, which ends them.
    `make settle` calls this and also removes Snakemake's lock.
    """
    from codebackdoor.runs import local_jobs, slurm_jobs

    folder = Path.cwd()
    local_jobs.check_idle(folder)
    running, queued = local_jobs.orphans(folder), slurm_jobs.jobs(folder)
    for orphan in running:
        click.echo(f"process {orphan.pid}  {orphan.command}")
    for job in queued:
        click.echo(f"job {job.id}  {job.state.lower():10}  {job.comment}")
    if not only_wait:
        slurm_jobs.cancel(queued)
        local_jobs.terminate(running)
    local_jobs.wait(running)
    slurm_jobs.wait(folder, [job.id for job in queued])
    count = len(running) + len(queued)
    outcome = "finished" if only_wait else "ended"
    click.echo(f"{count} job{'s' * (count != 1)} {outcome}" if count else "no job of this folder is left")


@click.command(short_help="Save Snakemake's records of a run in its folder.")
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
def keep_records(configs: tuple[Path, ...]) -> None:
    """Save Snakemake's records of a run in the run's folder, so that they travel with it (see `make push`).

    CONFIGS are the configuration files of the run; each one overrides those before it.
    """
    from codebackdoor.runs import records

    out = _run_folder(configs)
    click.echo(f"{records.keep(out)} records in {out / records.RECORDS}")


@click.command(short_help="Restore Snakemake's records of a run made elsewhere.")
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
def restore_records(configs: tuple[Path, ...]) -> None:
    """Restore Snakemake's records of a run that was made elsewhere (see `make pull`).

    CONFIGS are the configuration files of the run; each one overrides those before it.
    """
    from codebackdoor.runs import records

    out = _run_folder(configs)
    click.echo(f"{records.restore(out)} records of {out} restored")


def _run_folder(configs: tuple[Path, ...]) -> Path:
    """The folder of the run that configuration files describe."""
    from codebackdoor.config.loading import load

    return Path(load(configs).out)
