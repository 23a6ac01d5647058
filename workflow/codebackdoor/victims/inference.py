"""Asking a victim: logits, greedy generation, confidence of a given output; many inputs in one stream of batches.

Order is kept, inputs of like length share a batch, and identical inputs are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from codebackdoor.types import Example, Prediction
from codebackdoor.victims import forward
from codebackdoor.victims.batching import bucketed, halving, pad
from codebackdoor.victims.victim import Victim

#: Tokens of one batch, padding included.
TOKENS = {"cpu": 4096, "cuda": 65536}
#: Most logits (tokens x vocabulary) held at once when every token of an output is scored.
LOGITS = 2**26
NOT_FINITE = "the model returns NaN or infinite values; its weights are probably corrupt"


@dataclass(frozen=True, slots=True)
class Generated:
    """A greedy output: its ids up to and including the end of sequence (absent where the length limit came first),
    its text, and the mean probability of its tokens (CodePurify, Eq. 1)."""

    ids: list[int]
    text: str
    confidence: float


def class_logits(victim: Victim, inputs: Sequence[Sequence[int]], variants: bool = False) -> Tensor:
    """Return the logits [N, C] (float32, CPU) of N encoded inputs, in their order.

    ``variants``: the inputs differ in a few sub-tokens, and are read faster; logits are the same up to rounding.
    """
    unique, back = _unique(inputs)
    found: dict[int, Tensor] = {}

    def run(batch: Sequence[int]) -> None:
        ids, mask = pad([unique[index] for index in batch], victim.pad_id, victim.device)
        logits = forward.judge(victim, _vectors(victim, ids, mask, variants)).float().cpu()
        found.update(zip(batch, logits, strict=True))

    _stream([len(row) for row in unique], TOKENS[victim.device.type], run)
    if not unique:
        return torch.empty(0, int(victim.model.config.num_labels))
    return torch.stack([found[index] for index in range(len(unique))])[back]


def text_vectors(victim: Victim, texts: Sequence[Sequence[int]], variants: bool = False) -> Tensor:
    """Return the vectors [N, H] (float32, CPU) of N encoded texts, in their order; ``variants`` as above."""
    unique, back = _unique(texts)
    found: dict[int, Tensor] = {}

    def run(batch: Sequence[int]) -> None:
        ids, mask = pad([unique[index] for index in batch], victim.pad_id, victim.device)
        found.update(zip(batch, _vectors(victim, ids, mask, variants).float().cpu(), strict=True))

    _stream([len(row) for row in unique], TOKENS[victim.device.type], run)
    if not unique:
        return torch.empty(0, int(victim.model.config.hidden_size))
    return torch.stack([found[index] for index in range(len(unique))])[back]


def _vectors(victim: Victim, ids: Tensor, mask: Tensor, variants: bool) -> Tensor:
    if variants:
        return forward.variant_vectors(victim, ids, mask)
    return forward.vectors(victim, forward.embed(victim, ids), mask)


@torch.inference_mode()
def answers(victim: Victim, rows: Sequence[Sequence[Sequence[int]]], variants: bool = False) -> Tensor:
    """Return what an understanding victim says of N rows, each the ids of its texts (``Victim.fields``).

    Logits [N, C] of a classifier of texts or pairs, similarities [N] of a dual encoder; float32, CPU. Texts that occur
    more than once are read once.
    """
    columns = [[row[place] for row in rows] for place in range(len(victim.fields))]
    if victim.head == "classification":
        return class_logits(victim, columns[0], variants)
    flat = text_vectors(victim, [text for column in columns for text in column], variants)
    read = torch.split(flat.to(victim.device), len(rows))
    return forward.judge(victim, *read).float().cpu()


def generate(victim: Victim, inputs: Sequence[Sequence[int]]) -> list[Generated]:
    """Return the greedy output of each encoded input, at most ``max_target_length`` tokens long."""
    unique, back = _unique(inputs)
    found: dict[int, Generated] = {}

    def run(batch: Sequence[int]) -> None:
        for index, (ids, confidence) in zip(batch, _greedy(victim, [unique[i] for i in batch]), strict=True):
            found[index] = Generated(ids, victim.decode(ids), confidence)

    _stream([len(row) for row in unique], TOKENS[victim.device.type], run)
    return [found[index] for index in back.tolist()]


def _greedy(victim: Victim, rows: Sequence[Sequence[int]]) -> list[tuple[list[int], float]]:
    """One batch of greedy decoding with a key-value cache, until every row has ended."""
    model, end = victim.model, int(victim.model.config.eos_token_id)
    ids, mask = pad(rows, victim.pad_id, victim.device)
    encoded = model.get_encoder()(input_ids=ids, attention_mask=mask)
    start = int(model.config.decoder_start_token_id)
    last = torch.full((len(rows), 1), start, device=victim.device)
    done = torch.zeros(len(rows), dtype=torch.bool, device=victim.device)
    cache: Any = None
    tokens: list[Tensor] = []
    probabilities: list[Tensor] = []
    for _ in range(victim.max_target_length):
        output = model(
            encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=last, past_key_values=cache, use_cache=True
        )
        cache = output.past_key_values
        probability, last = output.logits[:, -1].float().softmax(-1).max(-1, keepdim=True)
        tokens.append(last)
        probabilities.append(probability)
        done |= last[:, 0] == end
        if bool(done.all()):
            break
    outputs = []
    for row, chances in zip(torch.cat(tokens, 1).tolist(), torch.cat(probabilities, 1).tolist(), strict=True):
        length = row.index(end) + 1 if end in row else len(row)
        outputs.append((row[:length], sum(chances[:length]) / length))
    return outputs


def sequence_confidences(victim: Victim, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> Tensor:
    """Return the mean token probability [N] of a given output for each input, teacher forced (CodePurify, Eq. 1).

    ``outputs`` are ids as ``generate`` returns them; an empty one is a ValueError.
    """
    found = forced(victim, inputs, outputs)
    return found[:, 0] / found[:, 2]


def forced(victim: Victim, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> Tensor:
    """Return [N, 3] (CPU): sum of token probabilities, sum of their logarithms, and number of tokens of each output."""
    if not all(outputs):
        raise ValueError("an output without tokens has no confidence")
    unique, back = _unique([(tuple(row), tuple(output)) for row, output in zip(inputs, outputs, strict=True)])
    start = int(victim.model.config.decoder_start_token_id)
    found: dict[int, Tensor] = {}

    def run(batch: Sequence[int]) -> None:
        ids, mask = pad([unique[index][0] for index in batch], victim.pad_id, victim.device)
        labels, real = pad([unique[index][1] for index in batch], victim.pad_id, victim.device)
        previous = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], 1)
        logits = victim.model(input_ids=ids, attention_mask=mask, decoder_input_ids=previous).logits.float()
        log_p = -torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        log_p = log_p.view_as(labels)
        sums = torch.stack([(log_p.exp() * real).sum(1), (log_p * real).sum(1), real.sum(1)], 1)
        found.update(zip(batch, sums.cpu(), strict=True))

    budget = min(TOKENS[victim.device.type], max(1, LOGITS // int(victim.model.config.vocab_size)))
    _stream([len(row) + len(output) for row, output in unique], budget, run)
    return torch.stack([found[index] for index in range(len(unique))])[back] if unique else torch.empty(0, 3)


def predict(victim: Victim, examples: Sequence[Example]) -> list[Prediction]:
    """Return what a victim that labels or generates says of each example; confidences are rounded to six decimals,
    since the last bits depend on which inputs share a batch."""
    read = [tuple(text.ids for text in row) for row in victim.read(examples)]
    if victim.head == "generation":
        return [
            Prediction(example.id, round(output.confidence, 6), text=output.text)
            for example, output in zip(examples, generate(victim, [ids for (ids,) in read]), strict=True)
        ]
    return label_predictions(examples, answers(victim, read))


def label_predictions(examples: Sequence[Example], logits: Tensor) -> list[Prediction]:
    """Return the predictions that logits [N, C] of N examples amount to."""
    confidences, labels = logits.softmax(-1).max(-1)
    return [
        Prediction(example.id, round(confidence, 6), label=label)
        for example, confidence, label in zip(examples, confidences.tolist(), labels.tolist(), strict=True)
    ]


def _unique(items: Sequence[Any]) -> tuple[list[Any], Tensor]:
    """Return the distinct items (as tuples) in order of first occurrence, and for each item its place among them."""
    places: dict[tuple[Any, ...], int] = {}
    back = [places.setdefault(tuple(item), len(places)) for item in items]
    return list(places), torch.tensor(back, dtype=torch.long)


@torch.inference_mode()
def _stream(lengths: Sequence[int], tokens: int, run: Callable[[Sequence[int]], None]) -> None:
    for batch in bucketed(lengths, tokens):
        halving(batch, run)
