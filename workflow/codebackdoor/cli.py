"""The command line: one command per stage, called by the rules of the workflow and by people.

Libraries are imported inside the commands, so that each command imports only what it needs.
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

# set before imports that may fail
sys.excepthook = crashed

import click  # noqa: E402

_GUIDE = """Study backdoors in neural code models: attacks, defenses, and how well each works.

\b
  Scan a checkpoint:       codebackdoor scan CHECKPOINT --clean clean.jsonl
  Run a whole study:       make run
  See what it would run:   make plan
  Explain every setting:   codebackdoor describe
  Check a configuration:   codebackdoor check config.yaml mine.yaml
  Help on one command:     codebackdoor scan --help

A study is a graph of files. For each kind of file there is one more command, which the workflow calls and --help
explains, such as `codebackdoor train --help`; docs/architecture.md has them all.
"""


#: Commands for people, in the order of the help; the Snakefile and the Makefile call the others.
_FOR_PEOPLE = ("scan", "clean", "sanitize", "check", "describe", "plan", "compare", "report", "join", "mirror")


class _Group(click.Group):
    """List the commands for people first; report a user error as one message with exit status 2."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return [*_FOR_PEOPLE, *(name for name in self.commands if name not in _FOR_PEOPLE)]

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Only the commands for people; the guide names the others, which the workflow calls."""
        limit = formatter.width - 6 - max(map(len, _FOR_PEOPLE))
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(limit)) for name in _FOR_PEOPLE])

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *more: Any, **options: Any
    ) -> NoReturn:
        """Run the command and exit with its status; click alone exits with 1 after an interrupt or a closed pipe."""
        options["standalone_mode"] = False
        try:
            _open_streams()
            status = super().main(args, prog_name, *more, **options)
            sys.stdout.flush()
        except BaseException as error:
            status = _report(error)
        sys.exit(status)


def _open_streams() -> None:
    """Replace standard streams that the caller closed by the null device, also below Python.

    A file opened later would get the number of the closed stream, and library output would be written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _report(error: BaseException) -> int:
    """Print what went wrong on standard error, and return the exit status."""
    if isinstance(error, click.Abort) and isinstance(error.__cause__, EOFError):
        # click mistakes the end of a damaged file for the end of user input
        error = error.__cause__
    try:
        # click itself raises SystemExit only for a closed pipe
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
        # otherwise Python would try to flush the same stream again at exit and complain
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(null, stream.fileno())
    return status


class _Echo(logging.Handler):
    """Print the package's log messages, such as the metrics of an epoch; in a job, they go to its log file."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(printable(self.format(record)), err=True)


@click.group(
    cls=_Group, help=_GUIDE, context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="codebackdoor")
def main() -> None:
    # imports create a million objects and no garbage; default collection would take an eighth of the startup time
    gc.set_threshold(20_000)
    logger = logging.getLogger(__package__)
    logger.setLevel(logging.INFO)
    logger.handlers = [_Echo()]


for _module, _names in {
    "data": (
        *("fill_mirror", "fetch", "mine", "corpus", "dataset", "testset", "trials", "statistics", "poison"),
        *("trigger", "prose"),
    ),
    "models": ("tokenizer", "pretrain", "train_victim", "stop_training", "gradients", "predict"),
    "defenses": ("filter_rows", "calibrate", "eliminate", "suspect", "purify", "rewrite"),
    "probing": ("probe", "states"),
    "results": (
        *("execute", "score", "audit", "collect", "table", "listing", "figure", "webpage", "write_report"),
        *("join", "paste", "compare"),
    ),
    "checkpoints": ("scan", "clean"),
    "sources": ("sanitize",),
    "study": ("check", "describe", "methods", "plan", "schema", "orphans", "keep_records", "restore_records"),
}.items():
    for _name in _names:
        main.add_command(getattr(importlib.import_module(f"codebackdoor.commands.{_module}"), _name))
