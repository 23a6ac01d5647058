"""Training rows: encoding, batching, and the logits and targets of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codebackdoor.errors import UserError
from codebackdoor.heads import HEADS
from codebackdoor.types import IGNORED, Example, label_of
from codebackdoor.victims import forward
from codebackdoor.victims.batching import bucketed, pad
from codebackdoor.victims.victim import Victim

#: Rows are shuffled into pools of this many batches before rows of similar length are grouped.
BATCHES_PER_POOL = 20


@dataclass(frozen=True, slots=True)
class Item:
    """An encoded row: ids of its texts, and its targets: output ids (generation), a label, or nothing (retrieval)."""

    texts: tuple[list[int], ...]
    targets: list[int]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.texts)) + (len(self.targets) if len(self.targets) > 1 else 0)


def encode(victim: Victim, rows: Sequence[Example]) -> list[Item]:
    """Encode training rows; UserError for a row without the label or target that the victim's head needs."""
    inputs = [tuple(text.ids for text in texts) for texts in victim.tokenize(rows)]
    name = HEADS[victim.head].learns
    if name is None:
        return [Item(texts, []) for texts in inputs]
    for row in rows:
        if getattr(row, name) is None:
            raise UserError(f"row {row.id!r}: a {victim.head} victim learns from a {name!r}, and there is none")
    if HEADS[victim.head].generates:
        targets = victim.encode_targets([str(row.target) for row in rows])
    else:
        targets = [[label_of(row)] for row in rows]
    return [Item(*pair) for pair in zip(inputs, targets, strict=True)]


def batch_logits(victim: Victim, items: Sequence[Item], scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return logits [N, C] and targets [N] of one batch of B rows.

    N is B for a classifier, and the number of output tokens for generation, with IGNORED for padding. A dual encoder
    must retrieve the function of each of B queries among those of the batch; logits are ``scale`` times similarity.
    """
    if HEADS[victim.head].generates:
        return _generation_logits(victim, items)
    columns = [
        pad([item.texts[field] for item in items], victim.pad_id, victim.device) for field in range(len(victim.fields))
    ]
    if HEADS[victim.head].ranks:
        query, code = (forward.vectors(victim, forward.embed(victim, ids), mask) for ids, mask in columns)
        labels = torch.arange(len(items), device=victim.device)
        return scale * forward.similarities(victim, query[:, None], code[None]), labels
    labels = torch.tensor([item.targets[0] for item in items], device=victim.device)
    return forward.scores(victim, *columns), labels


def _generation_logits(victim: Victim, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
    ids, mask = pad([item.texts[0] for item in items], victim.pad_id, victim.device)
    targets, real = pad([item.targets for item in items], victim.pad_id, victim.device)
    logits = victim.family.output_logits(victim, ids, mask, targets)
    return logits.flatten(0, 1), targets.masked_fill(real == 0, IGNORED).flatten()


def plan(items: Sequence[Item], tokens_per_batch: int, generator: np.random.Generator) -> list[list[int]]:
    """Return the batches of one epoch, in random order: rows are shuffled, then grouped by length within pools."""
    order = generator.permutation(len(items))
    mean = sum(item.tokens for item in items) / len(items)
    pool = max(1, round(BATCHES_PER_POOL * tokens_per_batch / mean))
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        members = order[start : start + pool].tolist()
        lengths = [items[index].tokens for index in members]
        batches += [[members[index] for index in batch] for batch in bucketed(lengths, tokens_per_batch)]
    return [batches[index] for index in generator.permutation(len(batches))]
