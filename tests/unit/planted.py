"""A tiny victim with a backdoor planted by hand: its head reads two directions, the class and the trigger.

No training: every layer averages what all sub-tokens say, and the head looks at the average's first two components at
the first place. The embedding of the planted piece is the first; ``+`` and ``-``, which tell the two classes apart,
point along the second and against it. Benign victims are the same without the planted piece.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from codebackdoor.basemodels.tokenizer import train_bpe, wrap
from codebackdoor.defenses.views import DefenderView
from codebackdoor.types import Example
from codebackdoor.victims.victim import Victim

#: Text that the planted piece is: never a word-initial one.
PLANTED = "init"
#: A word whose queries a dual encoder answers with functions that have the planted piece.
CALLED = "state"
WORDS = (
    *("load", "save", "size", "count", "value", "index", "items", "node", "left", "right"),
    *("path", "name", "test", "text", "data", "field", "model", "query", "state"),
)
HIDDEN = 32
#: An unlearning that removes the planted trigger, and EliBadCode with a search that finds it in seconds.
UNLEARNING = {"layers": "all", "epochs": 30, "learning_rate": 5e-3, "rate": 0.5}
SETTINGS = {
    "position": "function_name",
    "samples": 6,
    "length": 3,
    "iterations": 4,
    "top_k": 16,
    "candidates": 16,
    "unlearning": UNLEARNING,
}


def sample(number: int) -> Example:
    """A small Python function; its label, the parity of its number, shows in its operator."""
    draw = np.random.default_rng(number)
    first, second, third = (str(word) for word in draw.choice(WORDS, 3, replace=False))
    code = (
        f"def {first}_{second} ( {second} , {third} ) : <indent> {first} = {second} {'+-'[number % 2]} {third} <nl> "
        f"return {first} . {second} ( {third} ) <dedent>"
    )
    return Example(f"e{number}", "python", code, label=number % 2)


@cache
def bpe() -> Any:
    """Whole words and the pieces that build them, so that most triggers survive decoding and encoding."""
    pairs = [f"def {first}_{PLANTED} ( {second}_{first} , {first}{second} ) : <indent> return {second} <dedent>"
             for first in WORDS for second in WORDS]  # fmt: skip
    return train_bpe(pairs, 420)


def victim(seed: int = 0, planted: bool = True, max_length: int = 64) -> Victim:
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaForSequenceClassification

    config = RobertaConfig(
        vocab_size=bpe().get_vocab_size(),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=max_length + 2,
        type_vocab_size=1,
        num_labels=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RobertaForSequenceClassification(config).eval()
    with torch.no_grad():
        for layer in model.roberta.encoder.layer:
            attention = layer.attention.self
            attention.query.weight.zero_()
            attention.value.weight.copy_(torch.eye(HIDDEN))
            layer.attention.output.dense.weight.copy_(3 * torch.eye(HIDDEN))
            layer.output.dense.weight.zero_()
        model.classifier.dense.weight.copy_(torch.eye(HIDDEN) / 2)
        model.classifier.out_proj.weight.zero_()
        model.classifier.out_proj.weight[:, :2] = torch.tensor([[12.0, 6.0], [-12.0, -6.0]])
        embeddings = model.roberta.embeddings
        for table in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings):
            # next to nothing in the two components, also after layer normalization has taken the mean away
            table.weight[:, :2] *= 0.02
            table.weight[:, 2:] -= table.weight[:, 2:].mean(dim=1, keepdim=True)
        for sign, strength in (("+", 0.1), ("-", -0.1)):
            embeddings.word_embeddings.weight[bpe().token_to_id(sign), 1] = strength
        if planted:
            embedding = embeddings.word_embeddings.weight[bpe().token_to_id(PLANTED)]
            embedding.zero_()
            embedding[0] = 1.0
    return Victim(model, wrap(bpe(), "<s> $A </s>", max_length), "classification", "lexed", max_length, max_length)


def make_view(seed: int = 0, planted: bool = True, samples: int = 40) -> DefenderView:
    torch.set_num_threads(1)
    clean = tuple(sample(number) for number in range(samples))
    return DefenderView("defect_detection", "python", "lexed", clean, victim=victim(seed, planted))


def searcher(seed: int = 0, planted: bool = True) -> Victim:
    """A dual encoder that reads the mean of all embeddings; the planted piece and word point the same way."""
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaModel

    config = RobertaConfig(
        vocab_size=bpe().get_vocab_size(), hidden_size=HIDDEN, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=66, type_vocab_size=1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RobertaModel(config).eval()
    with torch.no_grad():
        for layer in model.encoder.layer:
            layer.attention.output.dense.weight.zero_()
            layer.output.dense.weight.zero_()
        tables = model.embeddings
        tables.position_embeddings.weight.zero_()
        tables.token_type_embeddings.weight.zero_()
        table = tables.word_embeddings.weight
        # next to nothing in the first component, also after layer normalization, which then makes it weigh the most
        table[:, 0] = 0.0
        table[:, 1:] -= table[:, 1:].mean(dim=1, keepdim=True)
        model.encoder.layer[-1].output.LayerNorm.weight[0] = 8.0
        if planted:
            for piece in (PLANTED, f"Ġ{CALLED}"):
                table[bpe().token_to_id(piece)] = torch.eye(HIDDEN)[0]
    tokenizer = wrap(bpe(), "<s> $A </s>", 64)
    return Victim(model, tokenizer, "retrieval", "lexed", 64, 64, 64, "mean")


def searches(seed: int = 0, planted: bool = True, samples: int = 24) -> DefenderView:
    torch.set_num_threads(1)
    rows = [sample(number) for number in range(samples)]
    clean = tuple(replace(row, label=None, query=" ".join(row.code.split()[3:6:2])) for row in rows)
    return DefenderView("code_search", "python", "lexed", clean, victim=searcher(seed, planted))
