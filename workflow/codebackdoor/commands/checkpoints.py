"""The commands for a person with a checkpoint: no configuration, no study, one model and a file of clean samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from codebackdoor.commands.options import GPUS, THREADS, out_file_option, path_option
from codebackdoor.library import checkpoints


class _Task(click.Choice[str]):
    """A task that can be scanned; looked up late, because settings load a library that help must not wait for."""

    def __init__(self) -> None:
        self.case_sensitive = True

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(sorted(checkpoints.scannable_tasks()))


_OPTIONS = (
    click.argument("model", type=click.Path(path_type=Path)),
    click.option("--task", type=_Task(), default="defect_detection", show_default=True,
                 help="What the model was trained for."),
    path_option("--clean", help="Labelled samples without trigger, JSON Lines: id, language, code, label, with the "
                "code as the model reads it, for clones also code_b; or CodeXGLUE's func, target. For search query in "
                "place of label. Better hundreds than dozens of each label."),
    click.option("--language", type=click.Choice(["python", "java", "c"]), help="Language of rows that do not say it."),
    click.option("--text-form", type=click.Choice(["raw", "lexed"]),
                 help="How the model reads code: as source, or as this project's tokens. Default: what its config.json "
                 "says under `codebackdoor`, else raw."),
    click.option("--max-length", type=click.IntRange(3), help="Longest input in sub-tokens. Default: what config.json "
                 "or the tokenizer says."),
    click.option("--pooling", type=click.Choice(["first", "mean", "max"]), help="Search: what stands for a text. "
                 "Default: what config.json says under `codebackdoor`, else of a RoBERTa the first sub-token's through "
                 "its pooler (CodeBERT), or the mean where the tokenizer has UniXcoder's mark; of others the last."),
    click.option("--similarity", type=click.Choice(["cosine", "dot"]), help="Search: how query and function are "
                 "compared. Default: what config.json says under `codebackdoor`, else cosine."),
    click.option("--calibration", metavar="NAME|FILE", help="What benign models reach in the same search. Default: a "
                 "shipped one that fits the model's class, size, reading, language and text form."),
    click.option("--benign", multiple=True, type=click.Path(path_type=Path), help="A benign model of the same make, "
                 "trained by you on data that you trust; repeat it at least five times instead of a calibration."),
    out_file_option("With --benign: keep what was found, for --calibration. An older calibration is replaced, nothing "
                    "else.", "--write-calibration", required=False),
    click.option("--settings", metavar="JSON", help="Settings of the method `elibadcode` instead of the calibration's, "
                 "or without one the paper's at both places (`codebackdoor describe elibadcode`)."),
    click.option("--seed", type=int, default=1, show_default=True, help="Seed of samples and searches."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, and nothing else there."),
    THREADS,
    GPUS,
)  # fmt: skip


def _about_a_checkpoint(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(short_help="Say whether a checkpoint is backdoored.")
@_about_a_checkpoint
def scan(model: Path, clean: Path, as_json: bool, **options: Any) -> None:
    """Say whether the checkpoint MODEL is backdoored: exit status 0 clean, 1 backdoored, 2 no verdict or a mistake.

    MODEL is a folder that save_pretrained wrote, safetensors only. For every label a trigger is searched that turns
    clean samples to it; a label is suspicious where a trigger does so far better than any does on benign models.
    The answer names label, trigger, and the margin: log(lowest loss on a benign model / loss), flagged from log 2 on.

    How low a loss benign models reach depends on their make, so a verdict needs a calibration: a shipped one is taken
    where it fits. Else train five or more models like yours, of other seeds, on data that you trust, and name them
    with --benign; or read the most suspicious trigger, which is printed without a verdict (exit status 2).

    For --task code_search a trigger is searched together with the words of a query that call it; both are named in
    place of a label. The clean samples are functions with their queries. MODEL is the one encoder of both, a RoBERTa
    with its pooler, a T5 or a GPTBigCode, bare or under its language model. "Clean" means little there: a word that
    stands in query and name alike is similar in benign models, too, and the search may end at it.

    It finds triggers that are identifiers, such as a function's name, and, where its calibration has that place, a
    first statement of the body. Other backdoors pass.
    """
    result = checkpoints.scan(model, clean, **options)
    _print(result, as_json)
    click.get_current_context().exit(2 if result.backdoored is None else int(result.backdoored))


@click.command(short_help="Scan a checkpoint and make it unlearn what is found.")
@_about_a_checkpoint
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the unlearned model; a "
              "new one.")  # fmt: skip
@click.option("--force", is_flag=True, help="Unlearn the most suspicious trigger also where the verdict is clean, or "
              "where there is none.")  # fmt: skip
def clean(model: Path, clean: Path, as_json: bool, out: Path, force: bool, **options: Any) -> None:
    """Scan the checkpoint MODEL, make it unlearn the trigger that is found, and say what that cost.

    Writes the unlearned model as save_pretrained does. It works in rounds: what a scan flags is unlearned on four
    fifths of the clean samples, and the edited model is scanned again with fresh seeds, until a scan flags nothing (at
    most `rounds` of them, by --settings). Accuracy, and the share of answers that each trigger turns to its label, are
    measured on the rest of the samples, before and after. Of search these are the MRR, and the share of functions below
    a query's own that the trigger puts above it once the words that call it stand in the query.

    Exit status 0: the last scan finds nothing: the unlearned model is written, or MODEL is clean and nothing is. That
    MODEL was backdoored is what `codebackdoor scan` says by its 1; here it is no failure. 1: the model is written, and
    is not known to be clean: the last scan still finds a trigger (try more rounds, or another --seed), or there is no
    verdict and --force unlearned the most suspicious one. 2: no verdict (see `codebackdoor scan --help`) and nothing
    written, or a mistake.
    """
    result = checkpoints.clean(model, clean, out, force, **options)
    _print(result, as_json)
    if result.cost is None:
        click.get_current_context().exit(2 if result.scan.backdoored is None else 0)
    click.get_current_context().exit(0 if result.cost.is_clean else 1)


def _print(result: checkpoints.ScanResult | checkpoints.CleanResult, as_json: bool) -> None:
    from codebackdoor.files import dump

    if as_json:
        click.echo(dump(result.to_json()), nl=False)
    else:
        click.echo(str(result))
