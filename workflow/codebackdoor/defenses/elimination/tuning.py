"""Fine-tuning on the clean samples, of the last layer or of all: what unlearning and its control share.

EliBadCode, section 4.5 and Eq. 4; clean fine-tuning (section 5.3.1) is the same budget without a trigger. The last
layer of a dual encoder is its projection where it has one, else its last transformer layer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from codebackdoor.defenses.elimination.settings import Schedule, TuningSettings
from codebackdoor.defenses.views import DefenderView
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, label_of
from codebackdoor.victims import forward
from codebackdoor.victims.batching import pad
from codebackdoor.victims.inference import predict_logits, text_vectors
from codebackdoor.victims.retrieval import Retriever, mrr
from codebackdoor.victims.victim import Victim

#: Functions that a query is ranked among when the clean samples are measured.
CLEAN_POOL = 100
#: The released schedule: share of the steps over which the rate rises, and the largest norm of a step's gradient.
WARMUP, LARGEST_NORM = 0.1, 1.0

#: The encoded texts of one sample.
Texts = tuple[list[int], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One sample of the unlearning set; ``stamped`` rows carry the trigger and are ascended on under Eq. 4."""

    example: Example
    label: int | None
    stamped: bool


def clean_rows(view: DefenderView) -> list[Row]:
    ranks = HEADS[view.victim.head].ranks
    return [Row(example, None if ranks else label_of(example), stamped=False) for example in view.clean]


def fine_tune(
    victim: Victim, rows: Sequence[Row], settings: TuningSettings, ascent: bool, generator: np.random.Generator
) -> tuple[Victim, dict[str, object]]:
    """Return a copy of the victim fine-tuned on the rows, and its history; the victim itself if there are no steps.

    AdamW without weight decay. Without dropout, the victim stays in evaluation mode, and if only the head learns, its
    inputs are computed once for all epochs. Dropout has a separate generator, so that the order of the rows is the same
    with it and without.
    """
    settings = settings.on(victim.head)
    if settings.epochs == 0 or settings.learning_rate == 0:
        return victim, {"steps": 0}
    edited = replace(victim, model=copy.deepcopy(victim.model))
    encoded = [tuple(text.ids for text in texts) for texts in victim.tokenize([row.example for row in rows])]
    tuner = _Tuner(edited, encoded, rows, settings, ascent)
    steps = settings.epochs * math.ceil(len(rows) / settings.batch_size)
    curve: list[float] = []
    devices = [victim.device] if victim.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(generator.spawn(1)[0].integers(2**63)))
        for epoch in range(settings.epochs):
            order = generator.permutation(len(rows)).tolist()
            starts = range(0, len(order), settings.batch_size)
            for start in tqdm(starts, desc=f"fine-tune, epoch {epoch + 1}", unit="step", leave=False, disable=None):
                rate = settings.learning_rate * rate_at(settings.schedule, len(curve), steps)
                curve.append(tuner.step(order[start : start + settings.batch_size], rate))
    tuner.release()
    history: dict[str, object] = {
        "steps": len(curve),
        "stamped": sum(row.stamped for row in rows),
        "rows": len(rows),
        "loss": curve,
        "clean_accuracy_before": _accuracy(victim, encoded, rows),
        "clean_accuracy_after": _accuracy(edited, encoded, rows),
    }
    return edited, history


def rate_at(schedule: Schedule, step: int, steps: int) -> float:
    """Factor of the learning rate at a step, from 0; ``released`` is get_linear_schedule_with_warmup."""
    rise = WARMUP * steps if schedule == "released" else 0.0
    if schedule == "constant":
        return 1.0
    return step / max(1.0, rise) if step < rise else (steps - step) / max(1.0, steps - rise)


class _Tuner:
    """The model, its optimizer, and the inputs of the head if nothing else learns."""

    def __init__(
        self, victim: Victim, encoded: Sequence[Texts], rows: Sequence[Row], settings: TuningSettings, ascent: bool
    ) -> None:
        self._victim, self._encoded, self._rows, self._ascent = victim, encoded, rows, ascent
        self._learned_before: dict[str, bool] = {
            name: parameter.requires_grad for name, parameter in victim.model.named_parameters()
        }
        last = settings.layers == "last"
        learning = victim.family.last_layer(victim) if last else victim.model
        head_inputs_are_fixed = last and not HEADS[victim.head].ranks and not settings.dropout
        self._head_inputs = _inputs_of_head(victim, encoded) if head_inputs_are_fixed else None
        self._largest_norm = LARGEST_NORM if settings.schedule == "released" else None
        victim.model.train(settings.dropout)
        victim.model.requires_grad_(False)
        learning.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(learning.parameters(), lr=settings.learning_rate, weight_decay=0.0)

    def step(self, batch: Sequence[int], rate: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss = _loss(self._victim, self._logits(batch), [self._rows[index] for index in batch], self._ascent)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._largest_norm is not None:
            nn.utils.clip_grad_norm_(self._victim.model.parameters(), self._largest_norm)
        self._optimizer.step()
        return loss.item()

    def _logits(self, batch: Sequence[int]) -> Tensor:
        """Logits [B, C]; for a dual encoder, similarities [B, B] of all queries and functions of the batch."""
        victim = self._victim
        if self._head_inputs is not None:
            return forward.logits(victim, *(column[list(batch)] for column in self._head_inputs))
        columns = [
            pad([self._encoded[index][field] for index in batch], victim.pad_id, victim.device)
            for field in range(len(victim.fields))
        ]
        if HEADS[victim.head].ranks:
            query, code = (forward.vectors(victim, forward.embed(victim, ids), mask) for ids, mask in columns)
            return forward.similarities(victim, query[:, None], code[None])
        return forward.scores(victim, *columns)

    def release(self) -> None:
        """Restore the model's mode and which of its parameters learn."""
        self._optimizer.zero_grad(set_to_none=True)
        self._victim.model.eval()
        for name, parameter in self._victim.model.named_parameters():
            parameter.requires_grad_(self._learned_before[name])


def _inputs_of_head(victim: Victim, encoded: Sequence[Texts]) -> list[Tensor]:
    """The vectors of each field's texts, [N, H], on the victim's device."""
    columns = [[texts[field] for texts in encoded] for field in range(len(victim.fields))]
    return [text_vectors(victim, column).to(victim.device) for column in columns]


def _loss(victim: Victim, logits: Tensor, rows: Sequence[Row], ascent: bool) -> Tensor:
    """Mean cross entropy; under ``ascent`` that of the clean rows minus that of the stamped ones (Eq. 4).

    For retrieval, that of finding each query's own function in the batch.
    """
    if HEADS[victim.head].ranks:
        targets = torch.arange(len(rows), device=logits.device)
        logits = logits * victim.factor
    else:
        targets = torch.tensor([row.label for row in rows], device=logits.device)
    row_losses = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    if not ascent:
        return row_losses.mean()
    stamped = torch.tensor([row.stamped for row in rows], device=logits.device)
    terms = [sign * row_losses[subset].mean() for sign, subset in ((1, ~stamped), (-1, stamped)) if subset.any()]
    return torch.stack(terms).sum()


def _accuracy(victim: Victim, encoded: Sequence[Texts], rows: Sequence[Row]) -> float | None:
    """Share of the rows without trigger that are predicted correctly (retrieval: MRR); ``None`` without such rows."""
    unstamped = [(texts, row) for texts, row in zip(encoded, rows, strict=True) if not row.stamped]
    if not unstamped:
        return None
    if HEADS[victim.head].ranks:
        return mrr(Retriever(victim, [row.example for _, row in unstamped], CLEAN_POOL).clean())
    predicted = predict_logits(victim, [texts for texts, _ in unstamped]).argmax(dim=1)
    return float((predicted == torch.tensor([row.label for _, row in unstamped])).float().mean())
