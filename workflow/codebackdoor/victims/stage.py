"""The stage that trains a victim: rows in, a model folder out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codebackdoor import files
from codebackdoor.config.recipes import UNCHANGED, Recipe
from codebackdoor.config.scenario import EPOCH_WEIGHTS
from codebackdoor.errors import UserError, quoted
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, Poisoned
from codebackdoor.victims.checkpoints import check_numbers
from codebackdoor.victims.initialization import new_victim
from codebackdoor.victims.rows import examples
from codebackdoor.victims.stopping import collect_epochs
from codebackdoor.victims.training import Objective, fit
from codebackdoor.victims.validation import Hits, Validation
from codebackdoor.victims.victim import save_victim

if TYPE_CHECKING:
    from codebackdoor.config.datasets import AnyDataset
    from codebackdoor.config.models import AnyModel


@dataclass(frozen=True, slots=True)
class TrainingFiles:
    """What a training reads, and the victim's folder ``out``.

    ``train`` has training rows, ``valid`` clean validation rows and ``triggered`` those with the trigger. ``base`` is
    the base model, ``stop_like`` the history of another victim.
    """

    train: Path
    valid: Path
    base: Path
    out: Path
    triggered: Path | None = None
    stop_like: Path | None = None


def train(
    model: AnyModel,
    dataset: AnyDataset,
    objective: Objective,
    paths: TrainingFiles,
    seed: int,
    hits: Hits | None = None,
    *,
    recipe: Recipe = UNCHANGED,
    keep_epochs: bool = False,
    code: str | None = None,
) -> None:
    """Fine-tune a base model and write the victim with its card and ``history.json``.

    ``recipe``: the changes that the defense makes to the model's settings; the card records the old and new values.
    ``keep_epochs``: keep the weights after every epoch in ``epochs/weights.safetensors``.

    Triggered rows add ASR and floor to the history; they need ``hits``, the task's definition of a hit. With
    ``stop_like``, training stops once the clean validation loss is as low as that victim's last one. A killed run with
    the same ``code`` (fingerprint) resumes from a hidden folder next to ``out``.
    """
    rows, out = files.read_mixed(paths.train), paths.out
    clean = files.read_examples(paths.valid)
    triggered = files.read_poisoned(paths.triggered) if paths.triggered else []
    inputs = examples(rows)
    labels = _labels([*inputs, *clean]) if HEADS[dataset.head].predicts_label else None
    victim = new_victim(model, paths.base, dataset.head, dataset.text_form, labels, seed, dataset.reads)
    progress = out.parent / f".{out.name}.progress"
    kept = progress / "epochs" if keep_epochs else None
    history = fit(
        victim,
        inputs,
        objective,
        recipe.applied(model),
        Validation(clean, triggered, hits, dataset.ranking.pool),
        progress,
        seed,
        stop_at_loss=None if paths.stop_like is None else _last_loss(paths.stop_like),
        code=code,
        clock=recipe.clock,
        keep=kept,
    )
    try:
        check_numbers(victim.model, out)
    except UserError as error:
        # every loss was finite, so a resumed run would end here again
        shutil.rmtree(progress, ignore_errors=True)
        raise UserError(f"{error}: the training diverges; lower lr or raise warmup") from None
    differences = recipe.differences(model)
    changed = {"recipe": differences} if differences else {}
    save_victim(victim, out, _card(model, dataset, objective, rows) | changed)
    facts = {"objective": repr(objective), "recipe": model.model_dump()}
    training = {"training": differences} if differences else {}
    files.write_json(out / "history.json", facts | training | history.to_json())
    if kept is not None:
        collect_epochs(kept, len(history.epochs), out / EPOCH_WEIGHTS)
    shutil.rmtree(progress, ignore_errors=True)


def _card(
    model: AnyModel, dataset: AnyDataset, objective: Objective, rows: Sequence[Example | Poisoned]
) -> dict[str, object]:
    """What the victim's card says of its training, except for changes to the model's settings."""
    injected = [row for row in rows if isinstance(row, Poisoned) and row.status == "injected"]
    return {
        "task": dataset.task,
        "backdoored": bool(injected),
        "attack": injected[0].attack if injected else None,
        "poisoned_rows": len(injected),
        "training_rows": len(rows),
        "architecture": model.architecture,
        "objective": repr(objective),
    }


def _labels(rows: list[Example]) -> int:
    """Number of classes: labels count from 0."""
    labels = [row.label for row in rows if row.label is not None]
    if len(labels) < len(rows):
        raise UserError(f"a classifier needs a 'label' in every row; {len(rows) - len(labels)} have none")
    if min(labels) < 0:
        raise UserError(f"labels count from 0, but one is {min(labels)}")
    # a head has weights for every class up to the largest
    if max(labels) >= len(labels):
        raise UserError(f"labels count from 0, but one is {quoted(max(labels))} in {len(labels)} rows")
    return max(2, max(labels) + 1)


def _last_loss(history: Path) -> float:
    """Validation loss of the last epoch of another victim's history."""
    epochs = files.read_object(history).get("epochs")
    last = epochs[-1] if isinstance(epochs, list) and epochs else None
    loss = last.get("loss") if isinstance(last, dict) else None
    if not isinstance(loss, int | float):
        raise UserError(f"{history}: not the history of a training; delete it and run again")
    return float(loss)
