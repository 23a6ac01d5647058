"""Predictions of a victim: logits, greedy generation, and the confidence of an output.

Inputs of similar length share a batch, identical inputs are computed once, and results are in the order of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from codebackdoor.batch_sizes import GPU_TOKENS
from codebackdoor.heads import HEADS
from codebackdoor.types import Example, Prediction
from codebackdoor.victims import forward
from codebackdoor.victims.batching import computed, pad
from codebackdoor.victims.victim import Victim

#: Tokens of one batch, padding included.
TOKENS = {"cpu": 4096, "cuda": GPU_TOKENS}
#: Maximum number of logits (tokens x vocabulary) in memory when every token of an output is scored.
LOGITS = 2**26
NOT_FINITE = "the model returns NaN or infinite values; its weights are probably corrupt"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Generated:
    """A greedy output: ids, text, and the mean probability of its tokens (CodePurify, Eq. 1).

    The ids end with the end of sequence, unless the length limit was reached first.
    """

    ids: list[int]
    text: str
    confidence: float


def class_logits(victim: Victim, inputs: Sequence[Sequence[int]], variants: bool = False) -> Tensor:
    """Return the logits [N, C] (float32, CPU) of N encoded inputs, in their order.

    ``variants``: the inputs differ in only a few sub-tokens, which allows a faster computation with the same logits up
    to rounding.
    """
    unique, indices = _unique(inputs)

    def compute(batch: Sequence[int]) -> Tensor:
        ids, mask = pad([unique[index] for index in batch], victim.pad_id, victim.device)
        return forward.logits(victim, _vectors(victim, ids, mask, variants)).float().cpu()

    rows = _computed([len(ids) for ids in unique], TOKENS[victim.device.type], compute)
    return torch.stack(rows)[indices] if rows else torch.empty(0, int(victim.model.config.num_labels))


def text_vectors(victim: Victim, texts: Sequence[Sequence[int]], variants: bool = False) -> Tensor:
    """Return the vectors [N, H] (float32, CPU) of N encoded texts, in their order; ``variants`` as above."""
    unique, indices = _unique(texts)

    def compute(batch: Sequence[int]) -> Tensor:
        ids, mask = pad([unique[index] for index in batch], victim.pad_id, victim.device)
        return _vectors(victim, ids, mask, variants).float().cpu()

    rows = _computed([len(ids) for ids in unique], TOKENS[victim.device.type], compute)
    return torch.stack(rows)[indices] if rows else torch.empty(0, int(victim.model.config.hidden_size))


def _vectors(victim: Victim, ids: Tensor, mask: Tensor, variants: bool) -> Tensor:
    if variants:
        return forward.variant_vectors(victim, ids, mask)
    return forward.vectors(victim, forward.embed(victim, ids), mask)


@torch.inference_mode()
def predict_logits(victim: Victim, rows: Sequence[Sequence[Sequence[int]]], variants: bool = False) -> Tensor:
    """Return the outputs, for N rows, of a victim that does not generate.

    A row holds the ids of its texts (``Victim.fields``). Classifiers return logits [N, C], dual encoders similarities
    [N]; float32, CPU. A text that occurs in several rows is computed once.
    """
    columns = [[row[field] for row in rows] for field in range(len(victim.fields))]
    head = HEADS[victim.head]
    if head.predicts_label and not head.reads_pairs:
        return class_logits(victim, columns[0], variants)
    flat = text_vectors(victim, [text for column in columns for text in column], variants)
    vectors = torch.split(flat.to(victim.device), len(rows))
    return forward.logits(victim, *vectors).float().cpu()


def generate(victim: Victim, inputs: Sequence[Sequence[int]]) -> list[Generated]:
    """Return the greedy output of each encoded input, at most ``max_target_length`` tokens long."""
    unique, indices = _unique(inputs)

    def compute(batch: Sequence[int]) -> list[Generated]:
        outputs = _greedy(victim, [unique[index] for index in batch])
        return [Generated(ids, victim.decode(ids), confidence) for ids, confidence in outputs]

    outputs = _computed([len(row) for row in unique], TOKENS[victim.device.type], compute)
    return [outputs[index] for index in indices.tolist()]


def _greedy(victim: Victim, rows: Sequence[Sequence[int]]) -> list[tuple[list[int], float]]:
    """Decode one batch greedily, with a key-value cache, until every row has ended."""
    end = int(victim.model.config.eos_token_id)
    step = victim.family.next_token(victim, *pad(rows, victim.pad_id, victim.device))
    last: Tensor | None = None
    ended = torch.zeros(len(rows), dtype=torch.bool, device=victim.device)
    tokens: list[Tensor] = []
    probabilities: list[Tensor] = []
    for _ in range(victim.max_target_length):
        probability, last = step(last).float().softmax(-1).max(-1, keepdim=True)
        tokens.append(last)
        probabilities.append(probability)
        ended |= last[:, 0] == end
        if bool(ended.all()):
            break
    outputs = []
    for row, confidences in zip(torch.cat(tokens, 1).tolist(), torch.cat(probabilities, 1).tolist(), strict=True):
        length = row.index(end) + 1 if end in row else len(row)
        outputs.append((row[:length], sum(confidences[:length]) / length))
    return outputs


def sequence_confidences(victim: Victim, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> Tensor:
    """Return the mean token probability [N] of each input's output, by teacher forcing (CodePurify, Eq. 1).

    ``outputs`` are ids as ``generate`` returns them; an empty one raises ValueError.
    """
    sums = forced(victim, inputs, outputs)
    return sums[:, 0] / sums[:, 2]


def forced(victim: Victim, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> Tensor:
    """Return [N, 3] (CPU): sum of token probabilities, sum of their logarithms, and number of tokens of each output."""
    if not all(outputs):
        raise ValueError("an output without tokens has no confidence")
    unique, indices = _unique([(tuple(row), tuple(output)) for row, output in zip(inputs, outputs, strict=True)])

    def compute(batch: Sequence[int]) -> Tensor:
        ids, mask = pad([unique[index][0] for index in batch], victim.pad_id, victim.device)
        labels, real = pad([unique[index][1] for index in batch], victim.pad_id, victim.device)
        log_p = log_probabilities(victim, ids, mask, labels)
        return torch.stack([(log_p.exp() * real).sum(1), (log_p * real).sum(1), real.sum(1)], 1).cpu()

    rows = _computed([len(row) + len(output) for row, output in unique], forced_tokens(victim), compute)
    return torch.stack(rows)[indices] if rows else torch.empty(0, 3)


def log_probabilities(victim: Victim, inputs: Tensor, mask: Tensor, outputs: Tensor) -> Tensor:
    """Return the logarithm [B, U] of every output token's probability; arguments as in ``Family.output_logits``."""
    logits = victim.family.output_logits(victim, inputs, mask, outputs).float()
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), outputs.flatten(), reduction="none")
    return -losses.view_as(outputs)


def forced_tokens(victim: Victim) -> int:
    """Maximum number of tokens in a batch, inputs and outputs, when every token of an output is scored."""
    vocabulary = int(victim.model.get_input_embeddings().num_embeddings)
    return min(TOKENS[victim.device.type], max(1, LOGITS // vocabulary))


def predict(victim: Victim, examples: Sequence[Example]) -> list[Prediction]:
    """Return the predictions of a victim that classifies or generates.

    Confidences are rounded to six decimals because the last bits depend on which inputs share a batch.
    """
    rows = [tuple(text.ids for text in texts) for texts in victim.tokenize(examples)]
    if HEADS[victim.head].generates:
        return [
            Prediction(example.id, round(output.confidence, 6), text=output.text)
            for example, output in zip(examples, generate(victim, [ids for (ids,) in rows]), strict=True)
        ]
    return label_predictions(examples, predict_logits(victim, rows))


def label_predictions(examples: Sequence[Example], logits: Tensor) -> list[Prediction]:
    """Return the predictions by the logits [N, C] of N examples."""
    confidences, labels = logits.softmax(-1).max(-1)
    return [
        Prediction(example.id, round(confidence, 6), label=label)
        for example, confidence, label in zip(examples, confidences.tolist(), labels.tolist(), strict=True)
    ]


def _unique(items: Sequence[Any]) -> tuple[list[Any], Tensor]:
    """Return the distinct items (as tuples) in order of first occurrence, and the index of each item among them."""
    indices: dict[tuple[Any, ...], int] = {}
    index_of_items = [indices.setdefault(tuple(item), len(indices)) for item in items]
    return list(indices), torch.tensor(index_of_items, dtype=torch.long)


@torch.inference_mode()
def _computed(lengths: Sequence[int], tokens: int, compute: Callable[[Sequence[int]], Iterable[T]]) -> list[T]:
    return computed(lengths, tokens, compute)
