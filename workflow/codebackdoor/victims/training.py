"""The trainer for all victims, heads and objectives.

Batches contain sequences of similar length and are sized by tokens; the learning rate rises and falls linearly;
gradients are clipped. The order of rows and the dropout of an epoch depend only on the seed and the epoch, so that a
killed run, resumed from its last finished epoch, ends with bit-identical weights. Once memory runs out, batches are
computed in parts, also after the run is resumed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from codebackdoor.config.model_settings import ModelSettings
from codebackdoor.config.recipes import Clock
from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.seeding import derive, numpy_generator
from codebackdoor.types import Example
from codebackdoor.victims import adapters, optimizers
from codebackdoor.victims.progress import Progress, State, digest, set_weights, weights, write_tensors
from codebackdoor.victims.training_rows import Item, batch_logits, encode, plan
from codebackdoor.victims.validation import DIGITS, Validation, Validator
from codebackdoor.victims.victim import Victim

log = logging.getLogger(__name__)

#: Called with logits [N, C], targets [N] and the epoch from 1 (with the clock ``step``, a float of at least 1); returns
#: the mean loss of the targets that are not IGNORED.
Objective = Callable[[Tensor, Tensor, Any], Tensor]


class DivergedError(UserError):
    """The loss of a training is not finite."""


@dataclass(slots=True)
class History:
    """One entry per epoch (from 1) with the training loss and the values of ``Validator.measure``."""

    kept_epoch: int
    rows: dict[str, int]
    precision: str
    epochs: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fit(
    victim: Victim,
    rows: Sequence[Example],
    objective: Objective,
    recipe: ModelSettings,
    validation: Validation,
    progress_dir: Path,
    seed: int,
    *,
    stop_at_loss: float | None = None,
    code: str | None = None,
    clock: Clock = "epoch",
    keep: Path | None = None,
) -> History:
    """Fine-tune the victim in place and return its history; the model is left in eval mode with the kept weights.

    Adapters are attached at the beginning and merged at the end.

    Parameters
    ----------
    rows: training rows; only their texts and their label or target are read.
    progress_dir: folder for the state after every epoch; the caller removes it once the victim is written.
    stop_at_loss: stop after the first epoch whose clean validation loss is no higher than this.
    code: fingerprint of the code; a state that other code left in ``progress_dir`` is ignored.
    clock: whether the objective receives whole epochs, or epochs that grow with every step (see ``epoch_at``).
    keep: folder for the trained weights after every epoch (EPOCH.safetensors); None: they are not kept.

    Raises
    ------
    DivergedError: a loss is not finite; the state of the run is removed, since resuming would end there again.
    UserError: the adapters or the optimizer do not fit the model.
    """
    if recipe.adapters is not None:
        adapters.attach(victim, recipe.adapters, seed)
    items = encode(victim, rows)
    validator = Validator(victim, validation, recipe.history_rows, recipe.scale)
    trainer = _Trainer(victim, items, objective, recipe, seed, clock)
    facts = digest(
        victim.model,
        recipe.model_dump(),
        repr(objective),
        seed,
        stop_at_loss,
        trainer.precision,
        [[*item.texts, item.targets] for item in items],
        [asdict(row) for row in validation.rows],
        [row.example.texts for row in validation.triggered],
        clock,
        keep is not None,
        code=code,
    )
    run = _Training(victim, recipe, trainer, validator, Progress(progress_dir, facts), seed, keep)
    state = _resumed(run)
    devices = [victim.device] if victim.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        while len(state.epochs) < recipe.epochs and not _reached(state, stop_at_loss):
            _add_epoch(run, state)
    return _finished(run, state, len(items))


@dataclass(frozen=True, slots=True)
class _Training:
    """What all epochs of a training share."""

    victim: Victim
    recipe: ModelSettings
    trainer: _Trainer
    validator: Validator
    progress: Progress
    seed: int
    keep: Path | None

    def kept_epoch(self, state: State) -> int:
        """The epoch whose weights the recipe keeps, of those that are finished."""
        return kept_epoch(state.epochs, self.recipe.checkpoint, HEADS[self.victim.head].clean_metric)


def _resumed(run: _Training) -> State:
    """The state of the last saved epoch, with its weights and optimizer restored; an empty one if nothing is saved."""
    saved = run.progress.load()
    state = saved.state
    if state.epochs:
        log.info("resuming after epoch %d of %d", len(state.epochs), run.recipe.epochs)
        set_weights(run.victim.model, saved.weights)
        run.trainer.optimizer.restore(saved.optimizer, run.trainer.steps(len(state.epochs)).stop)
        run.trainer.batch_parts = state.batch_parts
    return state


def _add_epoch(run: _Training, state: State) -> None:
    """Train and measure the next epoch, and save the state after it."""
    epoch = len(state.epochs) + 1
    model, trainer = run.victim.model, run.trainer
    torch.manual_seed(derive(run.seed, "dropout", str(epoch)))
    try:
        loss = trainer.epoch(epoch)
        with adapters.computed_once():
            measured = run.validator.measure()
        _check_finite("validation loss", measured["loss"], epoch)
    except DivergedError:
        run.progress.discard()
        raise
    state.epochs.append({"epoch": epoch, "train_loss": round(loss, DIGITS), **measured})
    state.batch_parts = trainer.batch_parts
    log.info("%s", state.epochs[-1])
    if run.recipe.checkpoint == "best" and run.kept_epoch(state) == epoch:
        trained = trainer.optimizer.changed(range(trainer.steps(run.recipe.epochs).stop))
        state.best = {name: value.clone() for name, value in weights(model, trained).items()}
    if run.keep is not None:
        run.keep.mkdir(parents=True, exist_ok=True)
        write_tensors(run.keep / f"{epoch}.safetensors", adapters.merged(model), {})
    run.progress.save(weights(model, trainer.optimizer.changed(trainer.steps(epoch))), trainer.optimizer.state(), state)


def _finished(run: _Training, state: State, rows: int) -> History:
    """Set the kept weights, merge the adapters, and return the history of a training on this number of rows."""
    if state.best is not None:
        set_weights(run.victim.model, state.best)
    adapters.merge(run.victim.model)
    run.victim.model.eval()
    counts = {"train": rows, **run.validator.counts}
    return History(run.kept_epoch(state), counts, run.trainer.precision, state.epochs)


def _check_finite(name: str, loss: float, epoch: float) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the {name} is not finite in epoch {int(epoch)} ({loss}): the training diverges; lower lr or raise warmup"
        )


def kept_epoch(epochs: Sequence[dict[str, Any]], checkpoint: str, clean_metric: str) -> int:
    """The last epoch, or the one with the highest clean metric (ties: the lowest loss, then the earliest)."""
    if checkpoint == "last":
        return int(epochs[-1]["epoch"])
    return int(max(epochs, key=lambda epoch: (epoch[clean_metric], -epoch["loss"]))["epoch"])


def _reached(state: State, stop_at_loss: float | None) -> bool:
    return stop_at_loss is not None and bool(state.epochs) and state.epochs[-1]["loss"] <= stop_at_loss


class _Trainer:
    """Model, optimizer and schedule of one run."""

    def __init__(
        self,
        victim: Victim,
        items: Sequence[Item],
        objective: Objective,
        recipe: ModelSettings,
        seed: int,
        clock: Clock = "epoch",
    ) -> None:
        self._victim, self._items, self._objective, self._recipe = victim, items, objective, recipe
        self._clock = clock
        self._plans = [
            plan(items, recipe.batch_tokens, numpy_generator(seed, "batches", str(epoch)))
            for epoch in range(1, recipe.epochs + 1)
        ]
        #: The number of parts in which a batch is computed, doubled each time that memory runs out.
        self.batch_parts = 1
        self.precision = precision_on(victim.device, _precision(recipe))
        self.optimizer = optimizers.build(victim.model, recipe, sum(map(len, self._plans)), seed)

    def steps(self, epoch: int) -> range:
        """The steps of an epoch, counted from the beginning of the training."""
        first = sum(len(batches) for batches in self._plans[: epoch - 1])
        return range(first, first + len(self._plans[epoch - 1]))

    def epoch(self, number: int) -> float:
        """Train one epoch and return its mean loss per step."""
        self._victim.model.train()
        batches = self._plans[number - 1]
        bar = tqdm(batches, desc=f"epoch {number} of {len(self._plans)}", unit="step", leave=False, disable=None)
        losses = [
            self._step(batch, epoch_at(number, index, len(batches), self._clock), step)
            for index, (batch, step) in enumerate(zip(bar, self.steps(number), strict=True))
        ]
        return sum(losses) / len(losses)

    def _step(self, batch: Sequence[int], epoch: float, step: int) -> float:
        self.optimizer.begin(step)
        loss = self._gradient(batch, epoch)
        while loss is None:
            # freed here, outside the handler, whose traceback keeps the tensors of the failed attempt alive
            self.optimizer.zero_grad()
            self.batch_parts *= 2
            negatives = ", which leaves fewer negatives for each query" if HEADS[self._victim.head].ranks else ""
            log.warning("out of memory: batches are computed in %d parts from now on%s", self.batch_parts, negatives)
            loss = self._gradient(batch, epoch)
        nn.utils.clip_grad_norm_(self._victim.model.parameters(), self._recipe.clip)
        self.optimizer.step(self._recipe.lr * rate_at(step, sum(map(len, self._plans)), self._recipe.warmup))
        self.optimizer.zero_grad()
        return loss

    def _gradient(self, batch: Sequence[int], epoch: float) -> float | None:
        """Accumulate the gradient of a batch's mean loss over its parts, and return the loss; None if memory ran out
        and smaller parts may fit."""
        items = [self._items[index] for index in batch]
        total = sum(len(item.targets) or 1 for item in items)
        size = -(-len(items) // self.batch_parts)
        mean = 0.0
        try:
            for start in range(0, len(items), size):
                part = items[start : start + size]
                with torch.autocast(self._victim.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                    logits, targets = batch_logits(self._victim, part, self._recipe.scale)
                share = sum(len(item.targets) or 1 for item in part) / total
                loss = self._objective(logits, targets, epoch) * share
                _check_finite("loss", loss.item(), epoch)
                loss.backward()  # type: ignore[no-untyped-call]
                mean += loss.item()
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            return None
        return mean


def epoch_at(epoch: int, step: int, steps: int, clock: Clock) -> float:
    """The epoch that an objective receives in a step (from 0) of an epoch (from 1) with ``steps`` steps.

    With the clock ``step`` it starts at 1 and grows linearly by 1 per epoch, so both clocks agree at the first step of
    every epoch.
    """
    return epoch if clock == "epoch" else epoch + step / steps


def _precision(recipe: ModelSettings) -> str:
    """The precision of matrix products; weights in a shorter format determine it."""
    return recipe.precision if recipe.weights == "float32" else recipe.weights


def precision_on(device: torch.device, precision: str) -> str:
    """Resolve ``auto`` to bfloat16 if the device has instructions for it, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = torch.cpu.get_capabilities()
    return "bfloat16" if any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16")) else "float32"


def rate_at(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate at a step (from 0): linear warmup over a share of the steps, then linear decay."""
    rise = warmup * steps
    return min((step + 1) / rise if rise else 1.0, (steps - step) / max(1.0, steps - rise))
