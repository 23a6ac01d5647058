"""How a victim represents its inputs: the vectors that its head reads, or the mean of the last hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from codebackdoor.config.model_settings import Pooling
from codebackdoor.heads import HEADS
from codebackdoor.types import Example
from codebackdoor.victims.batching import bucketed, halving, pad
from codebackdoor.victims.families.base import pooled
from codebackdoor.victims.forward import embed
from codebackdoor.victims.inference import TOKENS, text_vectors
from codebackdoor.victims.victim import Victim

Floats = NDArray[np.float64]
Ids = tuple[int, ...]


def representations(victim: Victim, examples: Sequence[Example]) -> Floats:
    """Return one vector per example, [N, D]; each distinct text is computed once.

    A classifier's vector is the one that its head reads, the last layer's state (Tran et al. 2018: the input of the
    last linear layer; CodeBERT: the encoder's state at the first sub-token). The two vectors of a pair are
    concatenated. A generator has no such head: its vector is the mean of the last hidden states over the sub-tokens,
    those of the encoder if there is one.
    """
    rows = [[tuple(text.ids) for text in texts] for texts in victim.tokenize(examples)]
    texts = list(dict.fromkeys(ids for row in rows for ids in row))
    if HEADS[victim.head].generates:
        vectors = pooled_states(victim, texts, "mean")
    else:
        vectors = text_vectors(victim, texts).numpy()
    index = {ids: number for number, ids in enumerate(texts)}
    places = np.array([[index[ids] for ids in row] for row in rows], dtype=np.intp).reshape(len(rows), -1)
    return vectors[places].reshape(len(rows), -1).astype(np.float64)


@torch.inference_mode()
def pooled_states(victim: Victim, texts: Sequence[Ids], pooling: Pooling) -> NDArray[np.float32]:
    """One vector per text, [N, D], of its last hidden states, those of the encoder if there is one."""
    vectors = np.empty((len(texts), int(victim.model.config.hidden_size)), dtype=np.float32)

    def run(batch: Sequence[int]) -> None:
        ids, mask = pad([texts[index] for index in batch], victim.pad_id, victim.device)
        states = victim.family.encoded(victim, embed(victim, ids), mask).float()
        vectors[list(batch)] = pooled(states, mask, pooling).cpu().numpy()

    for batch in bucketed([len(ids) for ids in texts], TOKENS[victim.device.type]):
        halving(batch, run)
    return vectors
