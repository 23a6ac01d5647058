"""Exact perplexity of a text without each of its words, under a causal language model (Qi et al. 2021, section 3).

The text before a removed word keeps its log-probabilities, keys and values, so only the text after it is run and scored
again for each word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import DynamicCache

from codebackdoor.victims.batching import pad

#: Texts whose keys and values are in memory at once.
TEXTS_AT_ONCE = 32
#: Keys that the shortened texts of one batch attend to: variants times length.
KEYS_PER_BATCH = 8192
#: Rows of one vocabulary softmax; small enough for the logits to stay in the cache.
ROWS_PER_SOFTMAX = 64


@dataclass(frozen=True, slots=True)
class TokenizedWords:
    """Sub-token ids of one text, beginning with a beginning-of-text id, and the half-open ranges of its words."""

    ids: list[int]
    words: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Surprise:
    """Perplexity of a whole text, and of the text without each word.

    ``without`` is NaN for a word without which nothing would be left to score.
    """

    of_text: float
    without: list[float]


@dataclass(frozen=True, slots=True)
class _Variant:
    """Text ``row`` of a group without its sub-tokens [start, end); ``word`` is its index in the text's words."""

    row: int
    word: int
    start: int
    end: int


@torch.inference_mode()
def surprises(model: Any, texts: Sequence[TokenizedWords]) -> list[Surprise]:
    """Return the perplexities of each text, in order; they do not depend on the other texts.

    ``model`` is a causal language model of transformers in eval mode with enough positions for the longest text.
    """
    order = sorted(range(len(texts)), key=lambda index: len(texts[index].ids))
    results: list[Surprise | None] = [None] * len(texts)
    groups = [order[start : start + TEXTS_AT_ONCE] for start in range(0, len(order), TEXTS_AT_ONCE)]
    for group in tqdm(groups, desc="perplexity", unit="group", disable=None):
        for index, surprise in zip(group, _group(model, [texts[index] for index in group]), strict=True):
            results[index] = surprise
    return [surprise for surprise in results if surprise is not None]


def _group(model: Any, texts: Sequence[TokenizedWords]) -> list[Surprise]:
    pad_id = 0
    ids, mask = pad([text.ids for text in texts], pad_id, model.device)
    output = model.base_model(input_ids=ids, attention_mask=mask, use_cache=True)
    hidden, cache = output.last_hidden_state, output.past_key_values
    rows, columns = mask[:, 1:].nonzero(as_tuple=True)
    losses = torch.zeros(ids.shape)
    losses[rows.cpu(), columns.cpu() + 1] = _losses(model, hidden[rows, columns], ids[rows, columns + 1])
    # before[row][t]: loss of everything before sub-token t
    before = [list(accumulate(line, initial=0.0)) for line in losses.double().tolist()]

    variants = [
        _Variant(row, word, start, end)
        for row, text in enumerate(texts)
        for word, (start, end) in enumerate(text.words)
        if len(text.ids) - 1 > end - start
    ]
    variants.sort(key=lambda variant: len(texts[variant.row].ids) - variant.end)
    at_once = max(1, KEYS_PER_BATCH // ids.shape[1])
    without = [[math.nan] * len(text.words) for text in texts]
    for first in range(0, len(variants), at_once):
        batch = variants[first : first + at_once]
        for variant, loss_after in zip(batch, _losses_after(model, hidden, cache, ids, texts, batch), strict=True):
            scored = len(texts[variant.row].ids) - 1 - (variant.end - variant.start)
            total = before[variant.row][variant.start] + loss_after
            without[variant.row][variant.word] = math.exp(total / scored)
    return [
        Surprise(math.exp(before[row][len(text.ids)] / max(len(text.ids) - 1, 1)), without[row])
        for row, text in enumerate(texts)
    ]


def _losses_after(
    model: Any, hidden: Tensor, cache: Any, ids: Tensor, texts: Sequence[TokenizedWords], batch: Sequence[_Variant]
) -> list[float]:
    """Loss of the text after the removed word, for each variant; the batch is sorted by the length of that text."""
    total = torch.zeros(len(batch), dtype=torch.float64)
    tails = [texts[variant.row].ids[variant.end :] for variant in batch]
    # the first sub-token after the gap is predicted by the last one before it, which is unchanged
    cut = [index for index, tail in enumerate(tails) if tail]
    if cut:
        rows = torch.tensor([batch[index].row for index in cut], device=ids.device)
        last = torch.tensor([batch[index].start - 1 for index in cut], device=ids.device)
        first = torch.tensor([tails[index][0] for index in cut], device=ids.device)
        total[cut] += _losses(model, hidden[rows, last], first).double()
    longer = [index for index in cut if len(tails[index]) > 1]
    if longer:
        targets, real = pad([tails[index][1:] for index in longer], 0, ids.device)
        fed, _ = pad([tails[index][:-1] for index in longer], 0)
        states = _continue(model, cache, [batch[index] for index in longer], fed.to(ids.device), real)
        rows, columns = real.nonzero(as_tuple=True)
        losses = torch.zeros(real.shape, dtype=torch.float64)
        losses[rows.cpu(), columns.cpu()] = _losses(model, states[rows, columns], targets[rows, columns]).double()
        total[longer] += losses.sum(1)
    losses_after: list[float] = total.tolist()
    return losses_after


def _continue(model: Any, cache: Any, variants: Sequence[_Variant], fed: Tensor, real: Tensor) -> Tensor:
    """Hidden states [V, S, D] of the tails ``fed`` [V, S], each after the cached states before its variant's gap."""
    starts = torch.tensor([variant.start for variant in variants], device=fed.device)
    rows = torch.tensor([variant.row for variant in variants], device=fed.device)
    longest = int(starts.max())
    prefixes = DynamicCache()
    for number, layer in enumerate(cache.layers):
        prefixes.update(layer.keys[rows, :, :longest], layer.values[rows, :, :longest], number)
    is_prefix = torch.arange(longest, device=fed.device)[None] < starts[:, None]
    positions = starts[:, None] + torch.arange(fed.shape[1], device=fed.device)[None]
    # padding would run past the last position; its states are never read
    positions = torch.where(real.bool(), positions, 0)
    states: Tensor = model.base_model(
        input_ids=fed,
        attention_mask=torch.cat([is_prefix.to(real.dtype), real], 1),
        position_ids=positions,
        past_key_values=prefixes,
        use_cache=True,
    ).last_hidden_state
    return states


def _losses(model: Any, states: Tensor, targets: Tensor) -> Tensor:
    """Negative log-probabilities [M], on the CPU, of ``targets`` [M] under the states [M, D] that predict them."""
    head = model.get_output_embeddings()
    pieces = [
        nn.functional.cross_entropy(head(part).float(), part_targets, reduction="none")
        for part, part_targets in zip(
            torch.split(states, ROWS_PER_SOFTMAX), torch.split(targets, ROWS_PER_SOFTMAX), strict=True
        )
    ]
    return torch.cat(pieces).cpu()
