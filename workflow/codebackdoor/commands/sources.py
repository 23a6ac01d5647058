"""The command that sanitizes source code for a checkpoint, without a study or its configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codebackdoor.commands.options import GPUS, THREADS, TaskChoice
from codebackdoor.library import sanitizing

if TYPE_CHECKING:
    from codebackdoor.library.sources import SourceText
    from codebackdoor.types import Language

#: Name of standard input.
STDIN = "-"


@click.command(short_help="Find and replace triggers in source code.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("files", metavar="FILE...", nargs=-1)
@click.option(
    "--clean",
    type=click.Path(path_type=Path),
    help="Rows without triggers as JSON Lines, for calibrating the "
    "threshold: id, language, code, with the code in the form that the model reads. CodeXGLUE's "
    "func and target work too; labels are not read. Use hundreds of rows.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    help="Entropy in nats below which a function is suspicious, "
    "instead of a calibrated one. It depends on the model; the paper uses 0.1.",
)
@click.option(
    "--task",
    type=TaskChoice(sanitizing.sanitizable_tasks),
    default="defect_detection",
    show_default=True,
    help="Task that the model was trained for.",
)
@click.option(
    "--language",
    type=click.Choice(["python", "java", "c"]),
    help="Language of the code. Default: by the file extensions (.py, .java, .c, .h).",
)
@click.option(
    "--text-form",
    type=click.Choice(["raw", "lexed"]),
    help="Form of code that the model reads: source code "
    "(raw), or its tokens joined by single spaces (lexed). Files are source code in either case. Default: "
    "`codebackdoor` in config.json, else raw.",
)
@click.option(
    "--max-length",
    type=click.IntRange(3),
    help="Longest input in sub-tokens. Default: the value in config.json or of the tokenizer.",
)
@click.option(
    "--infiller",
    type=click.Path(path_type=Path),
    help="Folder of the masked language model (RoBERTa class) "
    "that writes replacements. Its vocabulary may differ from the model's. Default: the small one in this "
    "repository, for Python.",
)
@click.option(
    "--settings",
    metavar="JSON",
    help="Settings of the method `codepurify` (see `codebackdoor describe "
    "codepurify`), such as the share of clean rows that may be suspicious.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Random seed of the calibration.")
@click.option("--json", "as_json", is_flag=True, help="Print only JSON on standard output.")
@THREADS
@GPUS
def sanitize(model: Path, files: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Find triggers in the source code FILE... that would control the checkpoint MODEL, and print a cleaned version.

    MODEL is a folder written by save_pretrained (safetensors only). Every function or method of a file, except for
    those inside another one, is one input of the model. Without FILE, or for the FILE -, standard input is read. For
    clone detection, name the files of each pair one after the other, with one function in each.

    In turn, each name that a function declares (its own, its parameters and local variables) and each statement is
    masked; --settings '{"names": "all"}' adds calls, attributes and types. Of a pair, an element that both functions
    have is masked in both. An element is suspicious if the model's confidence in its prediction depends almost only on
    it, as on a trigger. How concentrated the changes are is measured by their entropy; --clean calibrates the entropy
    below which a function is suspicious. A masked language model then replaces the element (CodePurify).

    The changes are printed as a unified diff, which `patch -p1` reads; no file is written. A clean function can be
    suspicious, too, and a trigger made of several elements may be missed. A replacement is a guess of the language
    model: review it.

    Exit status: 0 nothing suspicious, 1 something suspicious, 2 an error.
    """
    from codebackdoor.files import dump

    result = sanitizing.sanitize(model, [_source(name, options["language"]) for name in files or (STDIN,)], **options)
    click.echo(dump(result.to_json()) if as_json else str(result), nl=not as_json)
    click.get_current_context().exit(int(result.suspicious))


def _source(name: str, language: Language | None) -> str | SourceText:
    from codebackdoor.library.sources import read_stream

    if name != STDIN:
        return name
    return read_stream(sys.stdin.buffer, language)
