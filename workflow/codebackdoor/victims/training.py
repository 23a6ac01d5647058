"""The one trainer: every victim, head and objective.

Batches hold sequences of like length and are sized by tokens; AdamW with a linear rise and fall of the learning rate;
clipped gradients. The order of rows and the dropout of an epoch depend on the seed and the epoch alone, so a run that
was killed goes on from its last finished epoch and ends with the same bytes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from codebackdoor.config.models import ModelSettings
from codebackdoor.errors import UserError
from codebackdoor.seeding import derive, numpy_generator
from codebackdoor.types import Example
from codebackdoor.victims import forward
from codebackdoor.victims.batching import bucketed, pad
from codebackdoor.victims.progress import Progress, State, digest, set_weights, weights
from codebackdoor.victims.validation import CLEAN_METRICS, DIGITS, Validation, Validator
from codebackdoor.victims.victim import Victim

log = logging.getLogger(__name__)

#: Called with logits [N, C], targets [N] and the epoch from 1; returns the mean over targets that are not IGNORED.
Objective = Callable[[Tensor, Tensor, int], Tensor]
IGNORED = -100
#: Rows are mixed in pools of this many batches before neighbours in length are put together.
POOL = 20


class DivergedError(UserError):
    """A training whose loss is no finite number."""


@dataclass(frozen=True, slots=True)
class Item:
    """An encoded row: the ids of its texts; output ids (generation), the label, or nothing (retrieval) as targets."""

    texts: tuple[list[int], ...]
    targets: list[int]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.texts)) + (len(self.targets) if len(self.targets) > 1 else 0)


@dataclass(slots=True)
class History:
    """What happened: an entry for each epoch (from 1) with training loss and what ``Validator.measure`` returns."""

    kept_epoch: int
    rows: dict[str, int]
    precision: str
    epochs: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def encode(victim: Victim, rows: Sequence[Example]) -> list[Item]:
    """Encode training rows; a row without the label or target that the victim's head needs is a UserError."""
    texts = [tuple(text.ids for text in row) for row in victim.read(rows)]
    if victim.head == "retrieval":
        return [Item(own, []) for own in texts]
    name = "target" if victim.head == "generation" else "label"
    for row in rows:
        if getattr(row, name) is None:
            raise UserError(f"row {row.id!r}: a {victim.head} victim learns from a {name!r}, and there is none")
    if victim.head == "generation":
        targets = victim.encode_targets([str(row.target) for row in rows])
    else:
        targets = [[int(row.label or 0)] for row in rows]
    return [Item(*pair) for pair in zip(texts, targets, strict=True)]


def batch_logits(victim: Victim, items: Sequence[Item], scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return logits [N, C] and targets [N] of one batch of B rows.

    N = B rows of a classifier; N tokens of an output, with IGNORED for padding; of a dual encoder the B queries, each
    to find its own function among those of the batch by ``scale`` times the similarity.
    """
    if victim.head == "generation":
        return _generated(victim, items)
    columns = [
        pad([item.texts[place] for item in items], victim.pad_id, victim.device) for place in range(len(victim.fields))
    ]
    if victim.head == "retrieval":
        query, code = (forward.vectors(victim, forward.embed(victim, ids), mask) for ids, mask in columns)
        labels = torch.arange(len(items), device=victim.device)
        return scale * forward.similarities(victim, query[:, None], code[None]), labels
    labels = torch.tensor([item.targets[0] for item in items], device=victim.device)
    return forward.scores(victim, *columns), labels


def _generated(victim: Victim, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
    ids, mask = pad([item.texts[0] for item in items], victim.pad_id, victim.device)
    targets, real = pad([item.targets for item in items], victim.pad_id, victim.device)
    start = torch.full_like(targets[:, :1], int(victim.model.config.decoder_start_token_id))
    previous = torch.cat([start, targets[:, :-1]], 1)
    logits = victim.model(input_ids=ids, attention_mask=mask, decoder_input_ids=previous, use_cache=False).logits
    return logits.flatten(0, 1), targets.masked_fill(real == 0, IGNORED).flatten()


def plan(items: Sequence[Item], tokens_per_batch: int, generator: np.random.Generator) -> list[list[int]]:
    """Return the batches of one epoch: rows in random order, put together by length within pools, batches shuffled."""
    order = generator.permutation(len(items))
    mean = sum(item.tokens for item in items) / len(items)
    pool = max(1, round(POOL * tokens_per_batch / mean))
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        members = order[start : start + pool].tolist()
        lengths = [items[index].tokens for index in members]
        batches += [[members[index] for index in batch] for batch in bucketed(lengths, tokens_per_batch)]
    return [batches[index] for index in generator.permutation(len(batches))]


def fit(
    victim: Victim,
    rows: Sequence[Example],
    objective: Objective,
    recipe: ModelSettings,
    validation: Validation,
    progress_dir: Path,
    seed: int,
    stop_at_loss: float | None = None,
    code: str | None = None,
) -> History:
    """Fine-tune the victim in place and return its history; the model is left in eval mode with the kept weights.

    Parameters
    ----------
    rows: training rows; nothing but code and label or target is read.
    progress_dir: folder for what is kept after every epoch; the caller removes it once the victim is written.
    stop_at_loss: stop after the first epoch whose clean validation loss is no higher.
    code: fingerprint of the code; what another code has left in ``progress_dir`` is not taken up.

    Raises
    ------
    DivergedError: a loss is not finite; what the run has kept so far is removed, since going on would end there again.
    """
    items = encode(victim, rows)
    validator = Validator(victim, validation, recipe.history_rows, recipe.scale)
    trainer = _Trainer(victim, items, objective, recipe, seed)
    facts = digest(
        victim.model,
        recipe.model_dump(),
        repr(objective),
        seed,
        stop_at_loss,
        trainer.precision,
        [[*item.texts, item.targets] for item in items],
        [asdict(row) for row in validation.rows],
        [row.example.code for row in validation.triggered],
        code=code,
    )
    progress = Progress(progress_dir, facts)
    state = progress.load(victim.model, trainer.optimiser)
    if state.epochs:
        log.info("going on after epoch %d of %d", len(state.epochs), recipe.epochs)
    devices = [victim.device] if victim.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        while len(state.epochs) < recipe.epochs and not _reached(state, stop_at_loss):
            epoch = len(state.epochs) + 1
            torch.manual_seed(derive(seed, "dropout", str(epoch)))
            try:
                loss = trainer.epoch(epoch)
                measured = validator.measure()
                _check_finite("validation loss", measured["loss"], epoch)
            except DivergedError:
                progress.discard()
                raise
            state.epochs.append({"epoch": epoch, "train_loss": round(loss, DIGITS), **measured})
            log.info("%s", state.epochs[-1])
            if recipe.checkpoint == "best" and kept_epoch(state.epochs, "best") == epoch:
                state.best = {name: value.clone() for name, value in weights(victim.model).items()}
            progress.save(victim.model, trainer.optimiser, state)
    if state.best is not None:
        set_weights(victim.model, state.best)
    victim.model.eval()
    counts = {"train": len(items), **validator.counts}
    return History(kept_epoch(state.epochs, recipe.checkpoint), counts, trainer.precision, state.epochs)


def _check_finite(what: str, loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the {what} is not finite in epoch {epoch} ({loss}): the training diverges; lower lr or raise warmup"
        )


def kept_epoch(epochs: Sequence[dict[str, Any]], checkpoint: str) -> int:
    """The last epoch, or the first of those with the highest clean metric and, among these, the least loss."""
    if checkpoint == "last":
        return int(epochs[-1]["epoch"])
    metric = next(name for name in CLEAN_METRICS if name in epochs[0])
    return int(max(epochs, key=lambda epoch: (epoch[metric], -epoch["loss"]))["epoch"])


def _reached(state: State, stop_at_loss: float | None) -> bool:
    return stop_at_loss is not None and bool(state.epochs) and state.epochs[-1]["loss"] <= stop_at_loss


class _Trainer:
    """Model, optimiser and schedule of one run."""

    def __init__(
        self, victim: Victim, items: Sequence[Item], objective: Objective, recipe: ModelSettings, seed: int
    ) -> None:
        self._victim, self._items, self._objective, self._recipe = victim, items, objective, recipe
        self._plans = [
            plan(items, recipe.batch_tokens, numpy_generator(seed, "batches", str(epoch)))
            for epoch in range(1, recipe.epochs + 1)
        ]
        self._parts = 1
        self.precision = precision_on(victim.device, recipe.precision)
        parameters = [parameter for parameter in victim.model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
                {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=recipe.lr,
            fused=True,
        )

    def epoch(self, number: int) -> float:
        """Train one epoch and return its mean loss a step."""
        self._victim.model.train()
        before = sum(len(batches) for batches in self._plans[: number - 1])
        batches = self._plans[number - 1]
        bar = tqdm(batches, desc=f"epoch {number} of {len(self._plans)}", unit="step", leave=False, disable=None)
        losses = [self._step(batch, number, before + index) for index, batch in enumerate(bar)]
        return sum(losses) / len(losses)

    def _step(self, batch: Sequence[int], epoch: int, step: int) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self._recipe.lr * rate_at(step, sum(map(len, self._plans)), self._recipe.warmup)
        loss = self._gradient(batch, epoch)
        while loss is None:
            # freed here, outside of the handler, whose traceback keeps the tensors of the failed attempt alive
            self.optimiser.zero_grad(set_to_none=True)
            self._parts *= 2
            log.warning("out of memory: batches are computed in %d parts from here on", self._parts)
            loss = self._gradient(batch, epoch)
        nn.utils.clip_grad_norm_(self._victim.model.parameters(), self._recipe.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss

    def _gradient(self, batch: Sequence[int], epoch: int) -> float | None:
        """Add up the gradient of a batch's mean loss, part by part; None where memory ran out and can be split more."""
        items = [self._items[index] for index in batch]
        total = sum(len(item.targets) or 1 for item in items)
        size = -(-len(items) // self._parts)
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


def precision_on(device: torch.device, precision: str) -> str:
    """Resolve ``auto`` to bfloat16 where the processor has instructions for it, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    able = torch.cpu.get_capabilities()
    return "bfloat16" if any(able.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16")) else "float32"


def rate_at(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate at a step from 0: a linear rise over the first share of steps, then a linear fall."""
    rise = warmup * steps
    return min((step + 1) / rise if rise else 1.0, (steps - step) / max(1.0, steps - rise))
