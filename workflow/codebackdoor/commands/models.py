"""The stages that train models and run them: base models, victims, predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from codebackdoor.commands.options import (
    BASE,
    CODE,
    DATASET,
    GPUS,
    MIRROR,
    SEED,
    THREADS,
    count_rows,
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
    from codebackdoor.types import Poisoned, Prediction


@click.command()
@path_option("--corpus", help="Mined functions, or with --prose paragraphs; the training split is used.")
@click.option("--prose", is_flag=True, help="The corpus holds docstrings and comments instead of functions.")
@click.option(
    "--size",
    type=click.IntRange(min=301),
    required=True,
    help="Number of entries, including all bytes, special tokens and layout marks.",
)
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
    differences = {"recipe": difference} if (difference := changes.differences(recipe)) else {}
    with recorded(out, {"seed": seed, **differences}, {"base": base, "stop_like": stop_like}):
        stage.train(
            recipe,
            data,
            loss,
            stage.TrainingFiles(train, valid, base, out, triggered_valid, stop_like),
            seed,
            hits,
            recipe=changes,
            keep_epochs=loss_settings.keeps_epochs,
            code=given_code(),
        )


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

    with recorded(out, {"seed": seed, "inputs": count_rows(inputs.values())}):
        predictions.predict(victim, inputs, out, replacements, pool)
