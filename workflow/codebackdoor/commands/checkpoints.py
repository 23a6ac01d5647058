"""The commands for a person with a checkpoint: no configuration, no study, one model and a file of clean samples."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codebackdoor.commands import answers
from codebackdoor.commands.options import GPUS, THREADS, out_file_option, path_option, read_settings
from codebackdoor.errors import UserError

if TYPE_CHECKING:
    from codebackdoor.config.base import Head
    from codebackdoor.config.eliminations import EliBadCode
    from codebackdoor.defenses.verdict import Verdict
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

    It finds triggers that are identifiers, such as a function's name, and, where its calibration has that place, a
    first statement of the body. Other backdoors pass.
    """
    begun = time.monotonic()
    from codebackdoor.defenses import verdict

    view, settings, scanned = _prepared(model, **options)
    found = _named(verdict.judge(view, settings, options["seed"]), **options)
    if as_json:
        _print_json(answers.as_json(scanned, found, time.monotonic() - begun))
    else:
        _print_lines(answers.lines(scanned, found))
    click.get_current_context().exit(2 if found.backdoored is None else int(found.backdoored))


@click.command(short_help="Scan a checkpoint and make it unlearn what is found.")
@_about_a_checkpoint
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the unlearned model; a "
              "new one.")  # fmt: skip
@click.option("--force", is_flag=True, help="Unlearn the most suspicious trigger also where the verdict is clean, or "
              "where there is none.")  # fmt: skip
def clean(model: Path, as_json: bool, out: Path, force: bool, **options: Any) -> None:
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
    begun = time.monotonic()
    from codebackdoor.defenses import cleaning
    from codebackdoor.outputs import new_folder
    from codebackdoor.victims.edited import copy_unedited

    with new_folder(out) as folder:
        view, settings, scanned = _prepared(model, **options)
        copy = copy_unedited(model, folder.part)
        found, edited, cost = cleaning.clean(view, settings, options["seed"], force, copy.dtype)
        found = _named(found, **options)
        said = answers.lines(scanned, found)
        if cost is not None:
            said += [*answers.cost_lines(found, cost), *answers.copy_lines(copy)]
            title = type(edited.model).__name__
            copy.finish(edited, settings.model_dump(mode="json"), answers.readme(title, said))
            folder.finish()
    written = None if cost is None else str(out)
    if as_json:
        facts = answers.as_json(scanned, found, time.monotonic() - begun)
        _print_json(facts | {"cost": cost and asdict(cost), "out": written, "left_out": copy.left_out})
    else:
        _print_lines([*said, f"  written to {written}" if written else "  nothing is unlearned, and nothing written"])
    if cost is None:
        click.get_current_context().exit(2 if found.backdoored is None else 0)
    click.get_current_context().exit(0 if cost.is_clean else 1)


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
    seed: int,
) -> tuple[DefenderView, EliBadCode, answers.Scanned]:
    """The model with its samples, the search that it is asked by, and how it is read."""
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
    from codebackdoor.defenses.elimination.elibadcode import shadows
    from codebackdoor.defenses.samples import read_samples
    from codebackdoor.types import DefenderView
    from codebackdoor.victims.external import check_lengths, load_checkpoint
    from codebackdoor.victims.temperature import standardized

    if write_calibration is not None and write_calibration.exists():
        shadows.check_replaceable(write_calibration)

    def load(folder: Path) -> Victim:
        return load_checkpoint(folder, TASKS[task], text_form, max_length, pooling, similarity)

    victim = load(model)
    rows = read_samples(clean, language, victim.text_form, victim.head, int(victim.model.config.num_labels))
    cut = check_lengths(model, victim, rows, chosen=max_length is not None)
    view = DefenderView(task, rows[0].language, victim.text_form, rows, victim=standardized(victim, rows))
    scanned = _read(model, view, cut, seed)
    if benign:
        # read again with the verdict, so that it stays until the command ends
        folder = click.get_current_context().with_resource(tempfile.TemporaryDirectory())
        file = write_calibration or Path(folder) / "calibration.json"
        verdict.calibrate_on(view, benign, load, wanted or verdict.UNCALIBRATED, file)
        return view, verdict.settings_for(view, str(file), wanted), scanned
    return view, verdict.settings_for(view, calibration, wanted), scanned


def _read(model: Path, view: DefenderView, cut: int, seed: int) -> answers.Scanned:
    """What is scanned, and how."""
    from codebackdoor import __version__
    from codebackdoor.files import read_object, sha256
    from codebackdoor.victims.edited import run_elsewhere
    from codebackdoor.victims.headers import weight_files
    from codebackdoor.victims.victim import KEY

    card = read_object(model / "config.json").get(KEY)
    claim = None
    if isinstance(card, dict) and True in (card.get("backdoored"), card.get("backdoored_before")):
        before = "" if "elimination" not in card else " before an elimination edited it"
        claim = f"the model's own card says that it is backdoored{before}"
    return answers.Scanned(
        version=__version__,
        model=str(model),
        weights={path.name: sha256(path) for path in weight_files(model)},
        card=claim,
        beside=run_elsewhere(model),
        text_form=view.victim.text_form,
        max_length=view.victim.max_length,
        samples=len(view.clean),
        cut=cut,
        seed=seed,
    )


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


def _print_json(facts: dict[str, Any]) -> None:
    from codebackdoor.files import dump

    click.echo(dump(facts), nl=False)


def _print_lines(said: list[str]) -> None:
    for line in said:
        click.echo(line)
