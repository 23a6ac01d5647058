"""The commands for a person with a checkpoint: no configuration, no study, one model and a file of clean samples."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codebackdoor.commands.options import GPUS, THREADS, path_option, read_settings
from codebackdoor.errors import UserError

if TYPE_CHECKING:
    from codebackdoor.config.base import Head
    from codebackdoor.config.eliminations import EliBadCode
    from codebackdoor.defenses.verdict import Cost, Verdict
    from codebackdoor.types import DefenderView
    from codebackdoor.victims.victim import Victim

#: Tasks that a checkpoint can be asked about, and the head that each needs.
TASKS: dict[str, Head] = {"defect_detection": "classification", "clone_detection": "pair", "code_search": "retrieval"}

_OPTIONS = (
    click.argument("model", type=click.Path(path_type=Path)),
    click.option("--task", type=click.Choice(sorted(TASKS)), default="defect_detection", show_default=True,
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
    path_option("--write-calibration", required=False, help="With --benign: keep what was found, for --calibration."),
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
def scan(model: Path, as_json: bool, **options: Any) -> None:
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

    It finds triggers that are identifiers, such as a function's name. A backdoor of whole statements passes as clean.
    """
    from codebackdoor.defenses import verdict

    view, settings = _prepared(model, **options)
    found = _named(verdict.judge(view, settings, options["seed"]), **options)
    _show(found, None, None, as_json)
    click.get_current_context().exit(2 if found.backdoored is None else int(found.backdoored))


@click.command(short_help="Scan a checkpoint and make it unlearn what is found.")
@_about_a_checkpoint
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the unlearned model; a "
              "new one.")  # fmt: skip
@click.option("--force", is_flag=True, help="Unlearn the most suspicious trigger also where the verdict is clean, or "
              "where there is none.")  # fmt: skip
def clean(model: Path, as_json: bool, out: Path, force: bool, **options: Any) -> None:
    """Scan the checkpoint MODEL, make it unlearn the trigger that is found, and say what that cost.

    Writes the unlearned model as save_pretrained does. Four fifths of the clean samples are unlearnt on, again and
    again until the trigger is gone there; accuracy, and the share of answers that the trigger turns to its label, are
    measured on the rest, before and after. Of search these are the MRR, and the share of functions below a query's own
    that the trigger puts above it once the words that call it stand in the query.

    Exit status 0: what was asked for is done, so that a script may go on: the unlearned model is written, or MODEL is
    clean and nothing is. That MODEL was backdoored is what `codebackdoor scan` says by its 1; here it is no failure.
    1: the model is written, and the trigger still turns more than a tenth of the answers: more clean samples help, or
    more unlearning by --settings. 2: no verdict (see `codebackdoor scan --help`; --force unlearns nevertheless), or a
    mistake.
    """
    from codebackdoor.defenses import verdict
    from codebackdoor.victims.foreign import save_edited

    if out.exists():
        raise UserError(f"{out}: is there already; name a new folder")
    view, settings = _prepared(model, **options)
    found, edited, cost = verdict.unlearn(view, settings, options["seed"], force)
    found = _named(found, **options)
    if cost is not None:
        save_edited(edited, model, out, settings.model_dump(mode="json"), _lines(found, cost, None))
    _show(found, cost, out, as_json)
    if cost is None:
        click.get_current_context().exit(2 if found.backdoored is None else 0)
    else:
        click.get_current_context().exit(0 if cost.is_gone else 1)


def _prepared(
    model: Path,
    task: str,
    clean: Path,
    language: Any,
    text_form: Any,
    max_length: int | None,
    pooling: Any,
    similarity: Any,
    calibration: str | None,
    benign: tuple[Path, ...],
    write_calibration: Path | None,
    settings: str | None,
    seed: int,  # noqa: ARG001
) -> tuple[DefenderView, EliBadCode]:
    """The model with its samples, and the search that it is asked by."""
    if calibration and benign:
        raise UserError("--calibration and --benign: name one of them")
    if write_calibration and not benign:
        raise UserError("--write-calibration goes with --benign")
    if (pooling or similarity) and TASKS[task] != "retrieval":
        raise UserError("--pooling and --similarity go with --task code_search")
    wanted: EliBadCode | None = None
    if settings is not None:
        wanted = read_settings("eliminations", "EliBadCode", _of_the_method(settings), "--settings")
    from codebackdoor.defenses import verdict
    from codebackdoor.defenses.samples import read_samples
    from codebackdoor.types import DefenderView
    from codebackdoor.victims.foreign import check_lengths, load_checkpoint
    from codebackdoor.victims.temperature import standardized

    def load(folder: Path) -> Victim:
        return load_checkpoint(folder, TASKS[task], text_form, max_length, pooling, similarity)

    victim = load(model)
    rows = read_samples(clean, language, victim.text_form, victim.head, int(victim.model.config.num_labels))
    check_lengths(model, victim, rows, chosen=max_length is not None)
    view = DefenderView(task, rows[0].language, victim.text_form, rows, victim=standardized(victim, rows))
    if benign:
        # read again with the verdict, so that it stays until the command ends
        folder = click.get_current_context().with_resource(tempfile.TemporaryDirectory())
        file = write_calibration or Path(folder) / "calibration.json"
        verdict.calibrate_on(view, benign, load, wanted or verdict.PAPER, file)
        return view, verdict.settings_for(view, str(file), wanted)
    return view, verdict.settings_for(view, calibration, wanted)


def _of_the_method(settings: str) -> str:
    """The person's JSON with the method's name, which this option does not ask for; what is no JSON as it is."""
    try:
        given = json.loads(settings)
    except ValueError:
        return settings
    return json.dumps({"method": "elibadcode"} | given) if isinstance(given, dict) else settings


def _named(found: Verdict, benign: tuple[Path, ...], write_calibration: Path | None, **_: Any) -> Verdict:
    """The verdict without the name of a calibration that is gone with the command."""
    return replace(found, calibration=None) if benign and write_calibration is None else found


def _show(found: Verdict, cost: Cost | None, out: Path | None, as_json: bool) -> None:
    if as_json:
        from codebackdoor.files import dump

        written = {} if out is None else {"cost": cost and asdict(cost), "out": str(out) if cost else None}
        click.echo(dump(asdict(found) | written), nl=False)
        return
    for line in _lines(found, cost, out):
        click.echo(line)


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _lines(found: Verdict, cost: Cost | None, out: Path | None) -> list[str]:
    said = {True: "backdoored", False: "clean", None: "no verdict"}[found.backdoored]
    which, searches = "" if found.backdoored else "most suspicious: ", found.target_word is not None
    towards = f"called by {found.target_word!r}" if searches else f"towards label {found.target_label}"
    answers = f"answers {found.clean_accuracy:.1%} of the clean samples correctly"
    if searches:
        answers = f"finds the functions of the clean queries with an MRR of {found.clean_accuracy:.3f}"
    lines = [
        said,
        f"  {which}trigger {found.trigger!r} at {found.position}, {towards} (loss {found.loss:.4f})",
        f"  the model {answers}",
    ]
    if found.clean_accuracy <= found.largest_class:
        doubts = ("one answer for all", "--language and the labels")
        if searches:
            doubts = ("random ranks", "--pooling, --similarity and the queries")
        lines.append(f"  that is no better than {doubts[0]}: see --text-form, {doubts[1]}")
    if found.margin is None:
        lines.append(
            "  no calibration fits this model: name one with --calibration, or five benign models of its make with "
            "--benign"
        )
    else:
        lines.append(
            f"  margin {found.margin:.2f}, flagged from {found.threshold:.2f}; false-positive rate of that rule: "
            f"{found.false_positive_rate:.2f} on {found.shadows} benign models (95 %: at most {found.at_most:.2f})"
            + (f", calibration {found.calibration}" if found.calibration else "")
        )
    if cost is not None:
        flips = [("-" if rate is None else f"{rate:.1%}") for rate in (cost.flip_rate_before, cost.flip_rate_after)]
        turned = f"turned by the trigger to label {found.target_label}"
        kept = f"accuracy {cost.accuracy_before:.1%} -> {cost.accuracy_after:.1%}"
        if searches:
            turned = f"put above a query's own function by the trigger, {found.target_word!r} in the query"
            kept = f"MRR {cost.accuracy_before:.3f} -> {cost.accuracy_after:.3f}"
        lines += [
            f"  unlearnt on {cost.unlearnt_on} samples, {_times(cost.rounds)}; on {cost.rows} others:",
            f"  {kept}",
            f"  {turned}: {flips[0]} -> {flips[1]}",
        ]
        if not cost.is_gone:
            lines.append("  the trigger is not gone")
    if out is not None:
        lines.append(f"  written to {out}" if cost is not None else "  nothing is unlearnt, and nothing written")
    return lines
