"""Fine-tuning on the clean samples, mostly of the last layer only: what unlearning and its control share.

EliBadCode, section 4.5 and Eq. 4; clean fine-tuning (section 5.3.1) is the same budget without a trigger.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from codebackdoor.config.eliminations import LastLayer
from codebackdoor.errors import UserError
from codebackdoor.types import DefenderView, Example
from codebackdoor.victims import reading
from codebackdoor.victims.batching import bucketed, pad
from codebackdoor.victims.inference import TOKENS, class_logits
from codebackdoor.victims.victim import Victim


@dataclass(frozen=True, slots=True)
class Row:
    """One sample of the unlearning set; ``stamped`` rows carry the trigger and are ascended on under Eq. 4."""

    text: str
    label: int
    stamped: bool


def label_of(example: Example) -> int:
    if example.label is None:
        raise UserError(f"clean sample {example.id} has no label; eliminations of this kind need labelled samples")
    return example.label


def clean_rows(view: DefenderView) -> list[Row]:
    return [Row(example.code, label_of(example), stamped=False) for example in view.clean]


def fine_tune(
    victim: Victim, rows: Sequence[Row], settings: LastLayer, ascent: bool, generator: np.random.Generator
) -> tuple[Victim, dict[str, object]]:
    """Return a copy of the victim fine-tuned on the rows, and its history; the victim itself where nothing is to do.

    AdamW without weight decay. The victim stays in evaluation mode (FIDELITY E7), so no dropout noise enters, and
    what the last layer reads is computed once for all epochs.
    """
    if settings.epochs == 0 or settings.learning_rate == 0:
        return victim, {"steps": 0}
    edited = replace(victim, model=copy.deepcopy(victim.model))
    encoded = [one.ids for one in victim.encode([row.text for row in rows])]
    last = settings.layers == "last"
    features = _features(edited, encoded) if last else torch.empty(0)
    learning = edited.model.classifier if last else edited.model
    optimiser = torch.optim.AdamW(learning.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    curve: list[float] = []
    for epoch in range(settings.epochs):
        order = generator.permutation(len(rows)).tolist()
        starts = range(0, len(order), settings.batch_size)
        for start in tqdm(starts, desc=f"fine-tune, epoch {epoch + 1}", unit="step", leave=False, disable=None):
            batch = order[start : start + settings.batch_size]
            if last:
                logits = edited.model.classifier(features[batch])
            else:
                ids, mask = pad([encoded[index] for index in batch], victim.pad_id)
                logits = reading.scores(edited, (ids.to(victim.device), mask.to(victim.device)))
            loss = _loss(logits.float(), [rows[index] for index in batch], ascent)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            curve.append(loss.item())
    optimiser.zero_grad(set_to_none=True)
    history: dict[str, object] = {
        "steps": len(curve),
        "stamped": sum(row.stamped for row in rows),
        "rows": len(rows),
        "loss": curve,
        "clean_accuracy_before": _accuracy(victim, encoded, rows),
        "clean_accuracy_after": _accuracy(edited, encoded, rows),
    }
    return edited, history


def _features(victim: Victim, encoded: Sequence[Sequence[int]]) -> Tensor:
    """What the module ``classifier`` reads of each input: [N, ...], on the victim's device."""
    found: dict[int, Tensor] = {}
    seen: list[Tensor] = []
    handle = victim.model.classifier.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        with torch.no_grad():
            for batch in bucketed([len(ids) for ids in encoded], TOKENS[victim.device.type]):
                ids, mask = pad([encoded[index] for index in batch], victim.pad_id)
                reading.scores(victim, (ids.to(victim.device), mask.to(victim.device)))
                found.update(zip(batch, seen.pop(), strict=True))
    finally:
        handle.remove()
    return torch.stack([found[index] for index in range(len(encoded))])


def _loss(logits: Tensor, rows: Sequence[Row], ascent: bool) -> Tensor:
    """Mean cross entropy; under ``ascent`` that of the clean rows minus that of the stamped ones (Eq. 4)."""
    targets = torch.tensor([row.label for row in rows], device=logits.device)
    each = nn.functional.cross_entropy(logits, targets, reduction="none")
    if not ascent:
        return each.mean()
    stamped = torch.tensor([row.stamped for row in rows], device=logits.device)
    terms = [sign * each[chosen].mean() for sign, chosen in ((1, ~stamped), (-1, stamped)) if chosen.any()]
    return torch.stack(terms).sum()


def _accuracy(victim: Victim, encoded: Sequence[Sequence[int]], rows: Sequence[Row]) -> float | None:
    """Share of the rows without trigger that are predicted right; ``None`` where every row carries it."""
    kept = [(ids, row.label) for ids, row in zip(encoded, rows, strict=True) if not row.stamped]
    if not kept:
        return None
    predicted = class_logits(victim, [ids for ids, _ in kept]).argmax(dim=1)
    return float((predicted == torch.tensor([label for _, label in kept])).float().mean())
