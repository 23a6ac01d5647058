"""The commands for a single checkpoint and a file of clean samples, without a study or its configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from codebackdoor.commands.options import GPUS, THREADS, TaskChoice, out_file_option, path_option
from codebackdoor.library import checkpoints

_OPTIONS = (
    click.argument("model", type=click.Path(path_type=Path)),
    click.option("--task", type=TaskChoice(checkpoints.scannable_tasks), default="defect_detection", show_default=True,
                 help="Task that the model was trained for."),
    path_option("--clean", help="Labeled samples without triggers as JSON Lines: id, language, code, label, with the "
                "code in the form that the model reads; for clone detection also code_b; for code search query instead "
                "of label. CodeXGLUE's func and target work too. Use hundreds of samples of each label, not dozens."),
    click.option("--language", type=click.Choice(["python", "java", "c"]), help="Language of rows that name none."),
    click.option("--text-form", type=click.Choice(["raw", "lexed"]),
                 help="Form of code that the model reads: source code (raw), or its tokens joined by single spaces "
                 "(lexed). Default: `codebackdoor` in config.json, else raw."),
    click.option("--max-length", type=click.IntRange(3), help="Longest input in sub-tokens. Default: the value in "
                 "config.json or of the tokenizer."),
    click.option("--pooling", type=click.Choice(["first", "mean", "max"]), help="For code search: how token states "
                 "become one vector. Default: `codebackdoor` in config.json; else, for a RoBERTa, the pooled first "
                 "sub-token (CodeBERT), or the mean if the tokenizer has UniXcoder's mark; for other models, the last "
                 "sub-token."),
    click.option("--similarity", type=click.Choice(["cosine", "dot"]), help="For code search: similarity of query and "
                 "function. Default: `codebackdoor` in config.json, else cosine."),
    click.option("--calibration", metavar="NAME|FILE", help="Losses that benign models reach in the same search. "
                 "Default: a shipped calibration that fits the model's class, size, inputs, language and text form."),
    click.option("--benign", multiple=True, type=click.Path(path_type=Path), help="A benign model of the same kind, "
                 "trained by you on data that you trust. Repeat at least five times, instead of a calibration. Each "
                 "takes as long as MODEL. First statements are searched only with position: scan_all in --settings."),
    out_file_option("With --benign: save the calibration to this file, for later use with --calibration. Only an older "
                    "calibration is overwritten.", "--write-calibration", required=False),
    click.option("--settings", metavar="JSON", help="Settings of the method `elibadcode` (see `codebackdoor describe "
                 "elibadcode`). Default: those of the calibration; without one, the paper's, for the least sensitive "
                 "identifier and the function's name."),
    click.option("--seed", type=int, default=1, show_default=True, help="Random seed of samples and searches."),
    click.option("--json", "as_json", is_flag=True, help="Print only JSON on standard output."),
    THREADS,
    GPUS,
)  # fmt: skip


def _about_a_checkpoint(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(short_help="Check whether a checkpoint is backdoored.")
@_about_a_checkpoint
def scan(model: Path, clean: Path, as_json: bool, **options: Any) -> None:
    """Check whether the checkpoint MODEL is backdoored.

    MODEL is a folder written by save_pretrained (safetensors only). For every label, the scan searches for a trigger
    that flips clean samples to that label. A label is suspicious if its trigger works far better than any trigger found
    on benign models. The result names the label, the trigger and the margin: log(lowest loss on a benign model / loss);
    a label is flagged if its margin is at least log 2.

    A verdict needs a calibration, because the losses of benign models depend on model and data. A shipped calibration
    is used if it fits. Otherwise, train at least five models like yours, with different seeds, on data that you trust,
    and pass them with --benign. Without a calibration, the most suspicious trigger is printed without a verdict.

    With --task code_search, the trigger is searched together with the target words of the query; the result names the
    words instead of a label. The clean samples are functions with their queries. MODEL is a single encoder of both,
    with or without a language model head (docs/scan-and-clean.md lists the classes). For code search, "clean" is
    weak evidence: a word that appears in both query and name raises the similarity in benign models, too, and the
    search may end there.

    The scan finds triggers that are identifiers, such as a function name, and, if the calibration covers that position,
    a first statement of the body. It misses other backdoors.

    Exit status: 0 clean, 1 backdoored, 2 no verdict or an error.
    """
    result = checkpoints.scan(model, clean, **options)
    _print(result, as_json)
    click.get_current_context().exit(2 if result.backdoored is None else int(result.backdoored))


@click.command(short_help="Scan a checkpoint and unlearn the trigger it finds.")
@_about_a_checkpoint
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="New folder for the unlearned "
              "model.")  # fmt: skip
@click.option("--force", is_flag=True, help="Unlearn the most suspicious trigger even if the verdict is clean or "
              "there is no verdict.")  # fmt: skip
def clean(model: Path, clean: Path, as_json: bool, out: Path, force: bool, **options: Any) -> None:
    """Scan the checkpoint MODEL, unlearn the trigger that is found, and report the cost.

    The unlearned model is written in save_pretrained's format. Unlearning works in rounds: the model unlearns the
    flagged trigger on four fifths of the clean samples and is scanned again with fresh seeds, until a scan flags
    nothing (at most four times; more with --settings '{"rounds": 6}'). Accuracy, and the share of predictions that each
    trigger flips to its label, are measured on the remaining samples, before and after. For code search, these are the
    MRR, and the share of lower-ranked functions that the trigger moves above the query's own function if the query has
    the target words.

    \b
    Exit status:
      0  the final scan of the written model found nothing, or no backdoor
         was found in MODEL and nothing is written
      1  the model is written, but not known to be clean: the final scan still
         finds a trigger (try more rounds, or another --seed), or --force
         unlearned the most suspicious trigger without a verdict
      2  no verdict (see `codebackdoor scan --help`) and nothing written,
         or an error
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
