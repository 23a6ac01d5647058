"""Phase (b): the position of the trigger in each sample (EliBadCode, section 4.3).

A position is a strategy that gives every sample its own spans: its function's name, the first statement of its body, a
random identifier, or an identifier chosen by sensitivity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from codebackdoor import syntax
from codebackdoor.defenses.elimination.inversion.carriers import Carrier, carrier_of, cut
from codebackdoor.defenses.elimination.inversion.loss import CosineGap
from codebackdoor.defenses.elimination.inversion.spans import TriggerSpans, candidates, function_name, statement
from codebackdoor.defenses.views import DefenderView
from codebackdoor.heads import HEADS
from codebackdoor.seeding import numpy_generator
from codebackdoor.types import CodeField, Example, Pair
from codebackdoor.victims.inference import predict_logits
from codebackdoor.victims.tokens import stand_in
from codebackdoor.victims.victim import Victim

#: The token that replaces a masked identifier: ``<unk>``, as in the paper (section 4.3).
MASK_TOKEN: Literal["unknown"] = "unknown"
#: The spans of a sample, one entry for each field that gets the trigger.
SampleSpans = tuple[TriggerSpans, ...]


def trigger_fields(victim: Victim, pair: Pair) -> tuple[CodeField, ...]:
    """The fields that get the trigger: code; of a pair both functions, or the one that ``pair`` names."""
    if not HEADS[victim.head].reads_pairs:
        return ("code",)
    return ("code", "code_b") if pair == "both" else (pair,)


def seeded(position: str, seed: int) -> str:
    """A position of ``settings.positions`` as ``trigger_spans`` expects it: a random one depends on the seed."""
    return f"random {seed}" if position == "random" else position


def carriers(
    view: DefenderView, examples: Sequence[Example], position: str, occurrences: str, pair: Pair
) -> list[Carrier | None]:
    """Cut every sample at its spans; None for one that has a field without spans within the victim's input."""
    spans = trigger_spans(view, examples, position, occurrences, pair)
    tokenized = view.victim.tokenize(examples)
    return [
        carrier_of(view.victim, example, texts, sample_spans) if sample_spans else None
        for example, texts, sample_spans in zip(examples, tokenized, spans, strict=True)
    ]


def trigger_spans(
    view: DefenderView, examples: Sequence[Example], position: str, occurrences: str, pair: Pair
) -> list[SampleSpans | None]:
    """The spans of each sample, for each of its fields; None for a sample that has a field without spans.

    ``least_sensitive`` is the identifier whose masking changes the loss least. ``rank N`` is the one with N less
    sensitive ones, counted from the most sensitive one if N is negative (section 4.3, Figure 5). ``random N`` is the
    one that seed N draws.
    """
    by_field = [
        _field_spans(view, examples, field, position, occurrences) for field in trigger_fields(view.victim, pair)
    ]
    columns = zip(*by_field, strict=True)
    return [tuple(spans for spans in sample if spans) if all(sample) else None for sample in columns]


def _field_spans(
    view: DefenderView, examples: Sequence[Example], field: CodeField, position: str, occurrences: str
) -> list[TriggerSpans | None]:
    trees = [syntax.parse(str(getattr(example, field)), view.language, view.text_form) for example in examples]
    if position == "function_name":
        return [function_name(tree, occurrences, field) for tree in trees]
    if position == "statement":
        return [statement(tree, field) for tree in trees]
    options = [candidates(tree, occurrences, field) for tree in trees]
    if position.startswith("random "):
        seed = int(position.removeprefix("random "))
        return [_drawn(inside(view.victim, *pair), seed) for pair in zip(examples, options, strict=True)]
    return [_ranked(changes, position) for changes in sensitivities(view.victim, examples, options)]


def _drawn(options: Sequence[TriggerSpans], seed: int) -> TriggerSpans | None:
    """One of the options, which depends only on them and on the seed."""
    if not options:
        return None
    generator = numpy_generator(seed, "place", *(f"{option.name} {option.spans}" for option in options))
    return options[int(generator.integers(len(options)))]


def _ranked(changes: Sequence[tuple[TriggerSpans, float]], position: str) -> TriggerSpans | None:
    rank = 0 if position == "least_sensitive" else int(position.removeprefix("rank "))
    if not -len(changes) <= rank < len(changes):
        return None
    return sorted(changes, key=lambda pair: pair[1])[rank][0]


def inside(victim: Victim, example: Example, options: Sequence[TriggerSpans]) -> list[TriggerSpans]:
    """The options within the victim's input."""
    texts = dict(zip(victim.fields, victim.tokenize([example])[0], strict=True))
    return [
        option for option in options if cut(victim, str(getattr(example, option.field)), texts[option.field], option)
    ]


def sensitivities(
    victim: Victim, examples: Sequence[Example], options: Sequence[Sequence[TriggerSpans]]
) -> list[list[tuple[TriggerSpans, float]]]:
    """For each sample, |loss with an option masked - loss without| for every option in the input (``own_losses``).

    The victim reads all samples and all masks in one stream of batches.
    """
    _, substitute = stand_in(victim.tokenizer, MASK_TOKEN)
    rows: list[tuple[list[int], ...]] = []
    owners: list[Example] = []
    reached: list[list[TriggerSpans]] = []
    for example, texts, sample_options in zip(examples, victim.tokenize(examples), options, strict=True):
        ids = tuple(text.ids for text in texts)
        masked = [(option, carrier_of(victim, example, texts, (option,))) for option in sample_options]
        reached.append([option for option, carrier in masked if carrier])
        rows += [ids, *(carrier.fill([substitute], [substitute]) for _, carrier in masked if carrier)]
        owners += [example] * (1 + len(reached[-1]))
    if not rows:
        return []
    losses = own_losses(victim, rows, owners)
    ranked: list[list[tuple[TriggerSpans, float]]] = []
    start = 0
    for sample_options in reached:
        end = start + 1 + len(sample_options)
        changes = (losses[start + 1 : end] - losses[start]).abs().tolist()
        ranked.append(list(zip(sample_options, changes, strict=True)))
        start = end
    return ranked


def own_losses(victim: Victim, rows: Sequence[Sequence[Sequence[int]]], examples: Sequence[Example]) -> Tensor:
    """The loss of each row of texts, [N], with the label of its example: cross entropy in nats.

    For a dual encoder it is the squared difference of the cosine to 1, even if it ranks by the inner product, which has
    no such bound.
    """
    if HEADS[victim.head].ranks:
        return CosineGap().of(predict_logits(replace(victim, similarity="cosine"), rows))
    labels = torch.tensor([example.label for example in examples])
    return torch.nn.functional.cross_entropy(predict_logits(victim, rows), labels, reduction="none")
