"""The command line: one command per stage. Every rule of the workflow calls it, and a person can too.

Libraries are imported inside the commands, so that each starts with what it needs and nothing else.
"""

from __future__ import annotations

import gc
import importlib
import logging
from typing import Any

import click

from codebackdoor import __version__
from codebackdoor.errors import UserError, disk_trouble

_GUIDE = """Backdoors in neural code models: attacks, defenses, and what a table may claim.

\b
A study is a graph of files, and each command makes one kind of them:
  mirror                all originals from elsewhere -> a folder
  fetch, mine, corpus   archives of a package index -> real Python functions
  dataset               -> examples of a task, and the defender's clean ones
  statistics            -> how many identifiers there are, and how long
  poison                -> a poisoned training set and triggered test sets
  filter                -> the training set without rows that look poisoned
  train                 -> a victim (a transformers folder, safetensors)
  eliminate             -> the same victim with edited weights, trigger.json
  predict, purify       -> its predictions; purify rewrites the inputs first
  rewrite               -> rewritten inputs, once for all victims
  score                 -> metrics with intervals: ASR beside its floor
  table, listing, figure, report -> what a reader sees

\b
Run a whole study:       make run
See what it would do:    make plan
Explain every setting:   codebackdoor describe
Check a configuration:   codebackdoor check config.yaml configs/mine.yaml
Help on one command:     codebackdoor purify --help

The workflow (Snakefile, rules/) calls these commands with the settings of config.yaml as JSON.
"""


#: What a person calls, in the order in which help names it; the Snakefile and the Makefile call the others.
_FOR_PEOPLE = ("scan", "clean", "check", "describe", "plan", "compare", "report", "mirror")


class _Group(click.Group):
    """Commands for people first; a mistake that the user can mend is one message and exit status 2."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return [*_FOR_PEOPLE, *(name for name in self.commands if name not in _FOR_PEOPLE)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        for title, shown in (
            ("Commands for you", names[: len(_FOR_PEOPLE)]),
            ("Called by the workflow", names[len(_FOR_PEOPLE) :]),
        ):
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(limit)) for name in shown])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except Exception as error:
            trouble = disk_trouble(error)
            if trouble is None:
                raise
            click.echo(f"error: {trouble}", err=True)
            ctx.exit(2)


class _Echo(logging.Handler):
    """What the package reports while it works, such as an epoch's numbers: in a job, this is its log."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


@click.group(
    cls=_Group, help=_GUIDE, context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="codebackdoor")
def main() -> None:
    # imports make a million objects and no garbage; looking for some at the usual pace is an eighth of a job's start
    gc.set_threshold(20_000)
    own = logging.getLogger(__package__)
    own.setLevel(logging.INFO)
    own.handlers = [_Echo()]


for _module, _names in {
    "data": ("fill_mirror", "fetch", "mine", "corpus", "dataset", "statistics", "poison"),
    "models": (
        *("tokenizer", "pretrain", "filter_rows", "train_victim", "calibrate", "eliminate", "purify", "rewrite"),
        "predict",
    ),
    "probing": ("probe",),
    "results": ("score", "collect", "table", "listing", "figure", "write_report", "compare"),
    "checkpoints": ("scan", "clean"),
    "study": ("check", "describe", "plan", "schema", "orphans", "keep_records", "restore_records"),
}.items():
    for _name in _names:
        main.add_command(getattr(importlib.import_module(f"codebackdoor.commands.{_module}"), _name))
