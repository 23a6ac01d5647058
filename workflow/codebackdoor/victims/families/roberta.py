"""RoBERTa: CodeBERT, UniXcoder, GraphCodeBERT.

If only the first sub-token's last hidden state is read (BERT's [CLS] pooling), the last layer needs the keys and values
of every sub-token, but the query, attention output and feed-forward network of only the first. At every other position,
this saves 10 of the layer's 12 units of matrix work, 40% of the total in a two-layer model. Results and gradients
equal those of the full computation up to rounding, with dropout, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codebackdoor.config.base import Head
from codebackdoor.config.model_settings import Pooling
from codebackdoor.config.models import UniXcoder
from codebackdoor.heads import HEADS
from codebackdoor.victims.families.base import Family, ModelClass, previous_ids

if TYPE_CHECKING:
    from torch import Tensor

    from codebackdoor.victims.families.base import NextToken
    from codebackdoor.victims.victim import Victim

#: Parameters of a base model that a classifier drops.
_UNUSED = ("lm_head.", "pooler.", "roberta.pooler.")


class Roberta(Family):
    classes: Mapping[Head, ModelClass] | None = {
        "classification": ModelClass("roberta", "RobertaForSequenceClassification", ("classifier.",), _UNUSED),
        "pair": ModelClass("roberta", "RobertaForPairs", ("classifier.",), _UNUSED, "RobertaModel", 2),
        # a dual encoder keeps the base model's own pooler
        "retrieval": ModelClass("roberta", "RobertaModel", ("pooler.",), ("lm_head.",)),
        "generation": ModelClass("roberta", "RobertaForGeneration", ("decoder.",), _UNUSED, "RobertaModel", 0),
    }
    pooling: Pooling = "first"
    special_tokens: Mapping[str, str] = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    pads_with_end = False
    encoder_prefix = UniXcoder.prefix
    position_keys = ("max_position_embeddings",)
    positions_follow_padding = True
    dropout_names = ("hidden_dropout_prob", "attention_probs_dropout_prob")

    def target_ids(self, victim: Victim, ids: list[int]) -> list[int]:
        """Leave out the beginning of sequence, which the decoder starts from (CodeXGLUE)."""
        return ids[1:] if ids[:1] == [_start(victim)] else ids

    def output_logits(self, victim: Victim, inputs: Tensor, mask: Tensor, outputs: Tensor) -> Tensor:
        previous = previous_ids(outputs, _start(victim))
        logits: Tensor = victim.model.decode(previous, self._memory(victim, inputs, mask))[0]
        return logits

    def next_token(self, victim: Victim, inputs: Tensor, mask: Tensor) -> NextToken:
        import torch

        memory, cache = self._memory(victim, inputs, mask), None
        start = torch.full_like(mask[:, :1], _start(victim))

        def step(tokens: Tensor | None) -> Tensor:
            nonlocal cache
            logits, cache = victim.model.decode(start if tokens is None else tokens, memory, cache)
            last: Tensor = logits[:, -1]
            return last

        return step

    def _memory(self, victim: Victim, inputs: Tensor, mask: Tensor) -> Any:
        embedded = inputs if inputs.is_floating_point() else victim.model.get_input_embeddings()(inputs)
        return victim.model.decoder.memory(self.states(victim, embedded, mask), mask)

    def vectors(self, victim: Victim, embedded: Tensor, mask: Tensor) -> Tensor:
        if victim.pooling != "first":
            return super().vectors(victim, embedded, mask)
        return _projected(victim, first_token(victim.model.base_model, embedded, mask))

    def variant_vectors(self, victim: Victim, ids: Tensor, mask: Tensor) -> Tensor:
        if victim.pooling != "first":
            return super().variant_vectors(victim, ids, mask)
        return _projected(victim, first_token_of_variants(victim.model.base_model, ids, mask))

    def classify(self, model: Any, vector: Tensor) -> Tensor:
        logits: Tensor = model.classifier(vector[:, None])
        return logits

    def last_block(self, victim: Victim) -> Any:
        body = victim.model.base_model
        return body.pooler if victim.pooling == "first" else body.encoder.layer[-1]


def _start(victim: Victim) -> int:
    return int(victim.model.config.bos_token_id)


def _projected(victim: Victim, vectors: Tensor) -> Tensor:
    """The vectors after the pooler if the victim is a dual encoder (CodeBERT), else unchanged."""
    if not HEADS[victim.head].ranks:
        return vectors
    projected: Tensor = victim.model.base_model.pooler(vectors[:, None])
    return projected


def first_token(body: Any, embedded: Tensor, mask: Tensor) -> Tensor:
    """Return the first sub-token's state [B, H] of embeddings [B, T, H] and mask [B, T] (int64, padded on the right).

    ``body`` is a transformers ``RobertaModel``.
    """
    hidden: Tensor = body.embeddings(inputs_embeds=embedded)
    visible = _visible(mask)
    *inner, last = body.encoder.layer
    for layer in inner:
        hidden = _layer(layer, hidden, hidden, visible)
    return _layer(last, hidden[:, :1], hidden, visible)[:, 0]


def first_token_of_variants(body: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """``first_token`` of ids [B, T] that are variants of a few texts; without dropout or gradients, up to rounding.

    The first layer's projections depend only on the sub-token and its position, so each such pair is computed once. In
    the last layer, the key and value projections are applied to the single query instead of to every position. Of a
    two-layer model's 14 units of matrix work, 9 remain.
    """
    import torch

    embeddings, visible = body.embeddings, _visible(mask)
    *inner, last = body.encoder.layer
    length = ids.shape[1]
    pairs, back = torch.unique(ids * length + torch.arange(length, device=ids.device), return_inverse=True)
    positions = pairs % length + embeddings.padding_idx + 1
    distinct = embeddings(input_ids=(pairs // length)[None], position_ids=positions[None])[0]
    hidden: Tensor = distinct[back]
    for number, layer in enumerate(inner):
        attention = layer.attention.self
        if number == 0:
            parts = (attention.query, attention.key, attention.value)
            query, key, value = (part(distinct)[back] for part in parts)
            hidden = _after_projections(layer, query, key, value, hidden, visible)
        else:
            hidden = _layer(layer, hidden, hidden, visible)
    return _last_layer_at_first_token(last, hidden, visible)


def _last_layer_at_first_token(layer: Any, hidden: Tensor, visible: Tensor | None) -> Tensor:
    """``_layer`` at the first position, [B, H]; since q (W h)' = (q W) h', no keys or values are computed."""
    import torch

    attention = layer.attention.self
    size, start = attention.attention_head_size, hidden[:, 0]
    query = attention.query(start).unflatten(-1, (-1, size))
    # the bias of the keys adds a constant to all scores, which cancels in the softmax
    projected = torch.einsum("bns,nsh->bnh", query, attention.key.weight.unflatten(0, (-1, size)))
    scores = projected @ hidden.transpose(1, 2) / math.sqrt(size)
    if visible is not None:
        scores = scores.masked_fill(~visible[:, 0], -torch.inf)
    attended = scores.softmax(-1) @ hidden
    context = torch.einsum("bnh,nsh->bns", attended, attention.value.weight.unflatten(0, (-1, size))).flatten(1)
    output = layer.attention.output(context + attention.value.bias, start)
    state: Tensor = layer.output(layer.intermediate(output), output)
    return state


def _visible(mask: Tensor) -> Tensor | None:
    return None if bool(mask.all()) else mask[:, None, None, :].bool()


def _layer(layer: Any, queries: Tensor, hidden: Tensor, visible: Tensor | None) -> Tensor:
    """One layer at the positions ``queries`` [B, Q, H], which attend to ``hidden`` [B, T, H]: [B, Q, H]."""
    attention = layer.attention.self
    query, key, value = attention.query(queries), attention.key(hidden), attention.value(hidden)
    return _after_projections(layer, query, key, value, queries, visible)


def _after_projections(
    layer: Any, query: Tensor, key: Tensor, value: Tensor, queries: Tensor, visible: Tensor | None
) -> Tensor:
    """The rest of a layer after its three projections, at the positions ``queries`` [B, Q, H]: [B, Q, H]."""
    from torch.nn.functional import scaled_dot_product_attention

    attention = layer.attention.self
    query, key, value = (
        part.view(*part.shape[:2], -1, attention.attention_head_size).transpose(1, 2) for part in (query, key, value)
    )
    context = scaled_dot_product_attention(
        query, key, value, attn_mask=visible, dropout_p=attention.dropout.p if attention.training else 0.0
    )
    output = layer.attention.output(context.transpose(1, 2).flatten(2), queries)
    states: Tensor = layer.output(layer.intermediate(output), output)
    return states
