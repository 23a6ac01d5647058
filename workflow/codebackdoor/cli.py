"""The command line: one command per stage. Every rule of the workflow calls it, and a person can too.

Libraries are imported inside the commands, so that each starts with what it needs and nothing else.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from codebackdoor import __version__
from codebackdoor.errors import CLOSED_PIPE, FAILED, INTERRUPTED, crashed, message, printable

# before anything that may be missing, or broken off, is imported
sys.excepthook = crashed

import click  # noqa: E402

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

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *more: Any, **options: Any
    ) -> NoReturn:
        """Run the command and exit with its status; click's own exits with 1 after an interrupt or a closed pipe."""
        options["standalone_mode"] = False
        try:
            _open_streams()
            status = super().main(args, prog_name, *more, **options)
            sys.stdout.flush()
        except BaseException as error:
            status = _report(error)
        sys.exit(status)


def _open_streams() -> None:
    """Let the null device stand for a standard stream that the caller has closed, also below Python.

    A file that is opened later would get its number, and what a library prints would be written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _report(error: BaseException) -> int:
    """Say on standard error what went wrong, and return the exit status."""
    if isinstance(error, click.Abort) and isinstance(error.__cause__, EOFError):
        # click takes the end of a damaged file for that of the user's input
        error = error.__cause__
    try:
        # the only exit that click makes by itself is its answer to a closed pipe
        if isinstance(error, BrokenPipeError | SystemExit):
            status = CLOSED_PIPE
        elif isinstance(error, KeyboardInterrupt | click.Abort):
            status = INTERRUPTED
            click.echo("interrupted", err=True)
        elif isinstance(error, click.ClickException):
            status = FAILED
            error.show()
        else:
            status = FAILED
            text = message(error)
            if text is None:
                click.echo(printable("".join(traceback.format_exception(error))), err=True, nl=False)
            else:
                click.echo(f"error: {printable(text)}", err=True)
        sys.stdout.flush()
    except OSError:
        # what cannot be written now cannot at the end, either, where Python would complain once more
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(null, stream.fileno())
    return status


class _Echo(logging.Handler):
    """What the package reports while it works, such as an epoch's numbers: in a job, this is its log."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(printable(self.format(record)), err=True)


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
    "results": ("score", "collect", "table", "listing", "figure", "write_report", "paste", "compare"),
    "checkpoints": ("scan", "clean"),
    "study": ("check", "describe", "plan", "schema", "orphans", "keep_records", "restore_records"),
}.items():
    for _name in _names:
        main.add_command(getattr(importlib.import_module(f"codebackdoor.commands.{_module}"), _name))
