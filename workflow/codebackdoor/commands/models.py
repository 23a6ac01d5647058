"""The stages that run models: training, prediction, and defenses of trained victims."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codebackdoor.commands.options import (
    BASE,
    CODE,
    DATASET,
    GPUS,
    HELPERS,
    MIRROR,
    SEED,
    SETTINGS,
    THREADS,
    given_code,
    out_file_option,
    out_option,
    pairs_option,
    path_option,
    read_dataset,
    read_settings,
    recorded,
    settings_option,
)
from codebackdoor.errors import UserError

if TYPE_CHECKING:
    from codebackdoor.config.methods import AnyPurification
    from codebackdoor.defenses.purification.settings import EvidenceSettings
    from codebackdoor.types import Poisoned, Prediction


@click.command()
@path_option("--corpus", help="Mined functions, or with --prose paragraphs; the training split is used.")
@click.option("--prose", is_flag=True, help="The corpus holds docstrings and comments instead of functions.")
@click.option("--size", type=int, required=True, help="Number of entries, including special tokens and layout marks.")
@out_file_option("File of the tokenizer (tokenizer.json).")
def tokenizer(corpus: Path, prose: bool, size: int, out: Path) -> None:
    """Train the byte-level BPE tokenizer of the base models."""
    from codebackdoor.basemodels import stage

    stage.make_tokenizer(corpus, size, out, prose)


@click.command()
@click.argument("name")
@settings_option("pretraining")
@path_option("--corpus", help="Mined functions (english: docstrings and comments); the training split is used.")
@path_option("--tokenizer", help="tokenizer.json of the base models.")
@path_option("--generator", required=False, help="Encoder whose replaced tokens the discriminator learns to detect.")
@out_option("Folder of the base model.")
@THREADS
def pretrain(name: str, settings: str, corpus: Path, tokenizer: Path, generator: Path | None, out: Path) -> None:
    """Pretrain the small base model NAME on the corpus."""
    recipe = read_settings("pretraining", settings, f"pretraining.{name}")
    from codebackdoor.basemodels import stage

    stage.make_base(recipe, corpus, tokenizer, out, generator)


@click.command("train", short_help="Fine-tune a base model into a victim.")
@settings_option("victim", "--model")
@DATASET
@settings_option("training loss", "--objective")
@path_option("--train", help="Training rows, poisoned or not.")
@path_option("--valid", help="Clean validation rows.")
@path_option("--triggered-valid", required=False, help="Triggered validation rows, to record ASR and floor per epoch.")
@path_option(
    "--stop-like", required=False, help="history.json of another victim: stop training at its validation loss."
)
@BASE
@MIRROR
@out_option("Folder of the victim.")
@SEED
@THREADS
@GPUS
@CODE
def train_victim(
    model: str,
    dataset: str,
    objective: str,
    train: Path,
    valid: Path,
    triggered_valid: Path | None,
    stop_like: Path | None,
    base: Path,
    out: Path,
    seed: int,
) -> None:
    """Fine-tune a base model into a victim; an interrupted training resumes after its last complete epoch."""
    recipe = read_settings("model", model, "--model")
    loss_settings = read_settings("objective", objective, "--objective")
    if loss_settings.taken_checkpoint is not None:
        raise UserError("--objective: with `checkpoint` nothing is trained; use `codebackdoor stop`")
    data = read_dataset(dataset)
    from codebackdoor import tasks
    from codebackdoor.defenses import objectives
    from codebackdoor.victims import stage

    task, loss = tasks.load(data.task), objectives.load(loss_settings)

    def hits(prediction: Prediction, row: Poisoned) -> bool:
        return task.hits_target(prediction, row, data.text_form)

    recipe, changes = recipe.for_head(data.head), loss_settings.recipe
    keeps = loss_settings.keeps_epochs
    differences = {"recipe": difference} if (difference := changes.differences(recipe)) else {}
    with recorded(out, {"seed": seed, **differences}, {"base": base, "stop_like": stop_like}):
        stage.train(
            recipe, data, loss, train, valid, triggered_valid, base, out, seed, hits, stop_like, given_code(), changes,
            keeps,
        )  # fmt: skip


@click.command("stop", short_help="Take a checkpoint of a training as a victim.")
@settings_option("training loss", "--objective")
@path_option("--victim", help="Folder of a victim that kept its epochs.")
@path_option("--like", help="history.json of the victim that the checkpoint should match.")
@out_option("Folder of the checkpoint as a victim.")
@SEED
@THREADS
@GPUS
@CODE
def stop_training(objective: str, victim: Path, like: Path, out: Path, seed: int) -> None:
    """Take the checkpoint of an undefended training that matches another victim on clean validation rows."""
    settings = read_settings("objective", objective, "--objective")
    checkpoint = settings.taken_checkpoint
    if checkpoint is None:
        raise UserError(f"--objective: {settings.method} without `checkpoint` is trained; use `codebackdoor train`")
    from codebackdoor.victims import stopping

    with recorded(out, {"seed": seed}):
        stopping.stop(checkpoint, victim, like, out)


@click.command(short_help="Compute a training loss's gradient by the probability of the label.")
@settings_option("training loss", "--objective")
@out_file_option("JSON file of the curves.")
@CODE
def gradients(objective: str, out: Path) -> None:
    """Compute how the gradient of a training loss depends on the probability of the label, in several epochs."""
    settings = read_settings("objective", objective, "--objective")
    from codebackdoor.defenses import objectives
    from codebackdoor.defenses.objectives.gradients import write_curves

    write_curves(objectives.load(settings), out)


@click.command("filter", short_help="Drop training rows that look poisoned.")
@SETTINGS
@DATASET
@path_option("--train", help="Training rows, poisoned or not.")
@path_option("--clean", help="The defender's clean samples, for calibration.")
@path_option("--victim", required=False, help="Victim trained on all of these rows, for methods that need one.")
@HELPERS
@MIRROR
@out_option("Folder of train.jsonl (the kept rows), judged.jsonl, filtering.json and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def filter_rows(
    settings: str,
    dataset: str,
    train: Path,
    clean: Path,
    victim: Path | None,
    helpers: dict[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Drop the rows of a training set that look poisoned, before a victim is trained on it."""
    method = read_settings("filtering", settings, "--settings")
    if method.reads_victim and victim is None:
        raise UserError(f"{method.method} looks at a victim: name one that was trained on these rows with --victim")
    if victim is not None and not method.reads_victim:
        raise UserError(f"{method.method} looks at no victim; leave out --victim")

    with recorded(out, {"seed": seed}, helpers):
        if victim is None:
            from codebackdoor.defenses import training_rows

            training_rows.sift(method, read_dataset(dataset), train, clean, helpers, out, seed)
        else:
            from codebackdoor.defenses import filter_stage

            filter_stage.sift_by_victim(method, read_dataset(dataset), victim, train, clean, helpers, out, seed)


@click.command(short_help="Run a victim on test sets.")
@path_option("--victim", help="Folder of the victim.")
@pairs_option("--input", "Test set as NAME=FILE")
@pairs_option("--replacement", "Test set rewritten by `rewrite`, which replaces the input NAME, as NAME=FILE")
@click.option(
    "--pool", type=click.IntRange(1), default=1, help="Number of functions that a dual encoder ranks for a query."
)
@out_option("Folder of predictions.NAME.jsonl and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def predict(
    victim: Path, inputs: dict[str, Path], replacements: dict[str, Path], pool: int, out: Path, seed: int
) -> None:
    """Run a victim on one or more test sets and write its predictions with confidences."""
    from codebackdoor.victims import predictions

    with recorded(out, {"seed": seed, "inputs": _lines(inputs.values())}):
        predictions.predict(victim, inputs, out, replacements, pool)


@click.command(short_help="Edit a victim's weights to remove its backdoor.")
@SETTINGS
@DATASET
@path_option("--victim", help="Folder of the victim.")
@path_option("--clean", help="The defender's clean samples.")
@path_option(
    "--inverted",
    required=False,
    help="Folder of an earlier elimination with the same search settings on the same victim: reuse its trigger, or "
    "only its search trajectories if thresholds or the number of steps differ.",
)
@HELPERS
@MIRROR
@out_option("Folder of the edited victim, trigger.json and elimination.json.")
@SEED
@THREADS
@GPUS
@CODE
def eliminate(
    settings: str,
    dataset: str,
    victim: Path,
    clean: Path,
    inverted: Path | None,
    helpers: dict[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Edit a victim's weights to remove its backdoor, if it has one."""
    method = read_settings("elimination", settings, "--settings")
    from codebackdoor.defenses import stage

    with recorded(out, {"seed": seed}, {**helpers, "calibration": method.calibration_file}) as facts:
        data = read_dataset(dataset)
        facts["phases"] = stage.eliminate(method, data, victim, clean, helpers, out, seed, given_code(), inverted)


@click.command(short_help="Calibrate a label scan on benign victims.")
@SETTINGS
@DATASET
@pairs_option("--victim", "Benign victim as SEED=FOLDER, at least five")
@path_option("--clean", help="The defender's clean samples.")
@out_file_option("JSON file of the calibration.")
@THREADS
@GPUS
@CODE
def calibrate(settings: str, dataset: str, victims: dict[str, Path], clean: Path, out: Path) -> None:
    """Run a method's label scan on benign victims; the results tell clean from backdoored victims in later scans."""
    method = read_settings("elimination", settings, "--settings")
    from codebackdoor.defenses.elimination.inversion.calibration import stage
    from codebackdoor.defenses.elimination.inversion.calibration.settings import CalibratedSettings

    if not isinstance(method, CalibratedSettings):
        raise UserError(f"--settings: {method.label} has no scan to be calibrated")
    victims_by_seed = {int(seed): path for seed, path in victims.items()}
    stage.calibrate(method, read_dataset(dataset), victims_by_seed, clean, out, given_code())


@click.command(short_help="Remove triggers from test inputs, then predict.")
@SETTINGS
@DATASET
@path_option("--victim", help="Folder of the victim.")
@path_option("--valid", help="Clean validation rows, for calibration.")
@pairs_option("--input", "Test set as NAME=FILE")
@path_option("--trigger", required=False, help="trigger.json of an earlier elimination, for methods that read it.")
@path_option("--evidence", required=False, help="Folder that `suspect` wrote: use its measurements.")
@HELPERS
@MIRROR
@out_option("Folder of purified.NAME.jsonl, predictions.NAME.jsonl and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def purify(
    settings: str,
    dataset: str,
    victim: Path,
    valid: Path,
    inputs: dict[str, Path],
    trigger: Path | None,
    evidence: Path | None,
    helpers: dict[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Rewrite test inputs to remove triggers, if there are any, and predict on the result."""
    method = read_settings("purification", settings, "--settings")
    if method.reads_trigger and trigger is None:
        raise UserError(
            f"{method.method} reads an inverted trigger: name the trigger.json of an elimination with --trigger"
        )
    arguments = (read_dataset(dataset), victim, valid, inputs, helpers, out, seed)
    if evidence is not None:
        keeping = _keeping_evidence(method)
        from codebackdoor.defenses.evidence import decide

        with recorded(out, {"seed": seed, "inputs": _lines(inputs.values())}, helpers) as facts:
            decide(keeping, *arguments, evidence)
            facts["measured"] = _measured(evidence)
        return
    from codebackdoor.defenses import stage

    with recorded(out, {"seed": seed, "inputs": _lines(inputs.values())}, helpers):
        stage.purify(method, *arguments, trigger)


def _lines(paths: Iterable[Path]) -> int:
    """Number of rows in JSON Lines files."""
    return sum(path.read_bytes().count(b"\n") for path in paths)


def _measured(evidence: Path) -> dict[str, object] | None:
    """Seconds and number of inputs of the job that measured the evidence; None if its folder has no record."""
    path = evidence / "provenance.json"
    if not path.is_file():
        return None
    from codebackdoor.files import read_object

    job = read_object(path)
    return {"seconds": job.get("seconds"), "inputs": job.get("inputs")}


@click.command(short_help="Measure what a purification decides by.")
@SETTINGS
@DATASET
@path_option("--victim", help="Folder of the victim.")
@path_option("--valid", help="Clean validation rows, for calibration.")
@pairs_option("--input", "Test set as NAME=FILE")
@HELPERS
@MIRROR
@out_option("Folder of evidence.NAME.jsonl, calibration.jsonl, evidence.json and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def suspect(
    settings: str,
    dataset: str,
    victim: Path,
    valid: Path,
    inputs: dict[str, Path],
    helpers: dict[str, Path],
    out: Path,
    seed: int,
) -> None:
    """Measure how suspicious the elements of test inputs are, once for all variants of a purification."""
    method = _keeping_evidence(read_settings("purification", settings, "--settings"))
    from codebackdoor.defenses import evidence

    with recorded(out, {"seed": seed}, helpers) as facts:
        evidence.suspect(method, read_dataset(dataset), victim, valid, inputs, helpers, out, seed)
        facts["inputs"] = _lines([*inputs.values(), out / evidence.CALIBRATION])


def _keeping_evidence(settings: AnyPurification) -> EvidenceSettings:
    from codebackdoor.defenses.purification.settings import EvidenceSettings

    if not isinstance(settings, EvidenceSettings):
        raise UserError(f"{settings.method} keeps no evidence; use `codebackdoor purify` without --evidence")
    return settings


@click.command(short_help="Rewrite a test set, once for all victims.")
@SETTINGS
@DATASET
@path_option("--valid", help="Clean validation rows, for calibration.")
@path_option("--input", help="Test set, clean or triggered.")
@HELPERS
@MIRROR
@out_option("Folder of purified.jsonl and provenance.json.")
@SEED
@THREADS
@GPUS
@CODE
def rewrite(
    settings: str, dataset: str, valid: Path, input: Path, helpers: dict[str, Path], out: Path, seed: int
) -> None:
    """Rewrite a test set once for all victims, with a purification that does not read the victim."""
    method = read_settings("purification", settings, "--settings")
    if method.reads_victim:
        raise UserError(f"{method.method} reads the victim; use `codebackdoor purify` instead")
    from codebackdoor.defenses import rewriting

    with recorded(out, {"seed": seed, "inputs": _lines([input])}, helpers):
        rewriting.rewrite(method, read_dataset(dataset), valid, input, helpers, out, seed)
