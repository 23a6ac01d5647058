"""The first sub-token's last hidden state of a RoBERTa, where nothing else is read (BERT's [CLS] pooling).

The last layer then needs keys and values of every sub-token, but query, attention output and feed-forward network of
the first alone: 10 of its 12 units of matrix work fall away at every other place, which in a two-layer model is 40 % of
all. The result is the model's own, up to rounding; gradients and dropout are those of the whole computation.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def first_token(body: Any, embedded: Tensor, mask: Tensor) -> Tensor:
    """Return [B, H] of token embeddings [B, T, H] and mask [B, T] (int64, padded on the right).

    ``body`` is a transformers ``RobertaModel``.
    """
    hidden: Tensor = body.embeddings(inputs_embeds=embedded)
    visible = _visible(mask)
    *inner, last = body.encoder.layer
    for layer in inner:
        hidden = _layer(layer, hidden, hidden, visible)
    return _layer(last, hidden[:, :1], hidden, visible)[:, 0]


def first_token_of_variants(body: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """``first_token`` of ids [B, T], variants of a few texts; without dropout or gradient, up to rounding.

    What the first layer asks, and is asked, at a place depends on the sub-token and the place alone: each pair of them
    is computed once. The last layer's keys and values are multiplied out on the side of the one query: of a two-layer
    model's 14 units of matrix work 9 are left.
    """
    embeddings, visible = body.embeddings, _visible(mask)
    *inner, last = body.encoder.layer
    length = ids.shape[1]
    pairs, back = torch.unique(ids * length + torch.arange(length, device=ids.device), return_inverse=True)
    places = pairs % length + embeddings.padding_idx + 1
    distinct = embeddings(input_ids=(pairs // length)[None], position_ids=places[None])[0]
    hidden: Tensor = distinct[back]
    for number, layer in enumerate(inner):
        asked = layer.attention.self
        if number == 0:
            query, key, value = (part(distinct)[back] for part in (asked.query, asked.key, asked.value))
            hidden = _rest(layer, query, key, value, hidden, visible)
        else:
            hidden = _layer(layer, hidden, hidden, visible)
    return _first_of_last(last, hidden, visible)


def _first_of_last(layer: Any, hidden: Tensor, visible: Tensor | None) -> Tensor:
    """``_layer`` for the first place, [B, H]: q (W h)' is (q W) h', so that no key and no value is made."""
    attention = layer.attention.self
    size, start = attention.attention_head_size, hidden[:, 0]
    query = attention.query(start).unflatten(-1, (-1, size))
    # the keys' bias adds the same to every place's score, and softmax takes it away
    asked = torch.einsum("bns,nsh->bnh", query, attention.key.weight.unflatten(0, (-1, size)))
    scores = asked @ hidden.transpose(1, 2) / math.sqrt(size)
    if visible is not None:
        scores = scores.masked_fill(~visible[:, 0], -torch.inf)
    seen = scores.softmax(-1) @ hidden
    context = torch.einsum("bnh,nsh->bns", seen, attention.value.weight.unflatten(0, (-1, size))).flatten(1)
    attended = layer.attention.output(context + attention.value.bias, start)
    output: Tensor = layer.output(layer.intermediate(attended), attended)
    return output


def _visible(mask: Tensor) -> Tensor | None:
    return None if bool(mask.all()) else mask[:, None, None, :].bool()


def _layer(layer: Any, asking: Tensor, hidden: Tensor, visible: Tensor | None) -> Tensor:
    """One transformer layer for the places ``asking`` [B, Q, H], which attend to ``hidden`` [B, T, H]: [B, Q, H]."""
    attention = layer.attention.self
    return _rest(layer, attention.query(asking), attention.key(hidden), attention.value(hidden), asking, visible)


def _rest(layer: Any, query: Tensor, key: Tensor, value: Tensor, asking: Tensor, visible: Tensor | None) -> Tensor:
    """What follows a layer's three projections, of the places ``asking`` [B, Q, H]: [B, Q, H]."""
    attention = layer.attention.self
    query, key, value = (
        part.view(*part.shape[:2], -1, attention.attention_head_size).transpose(1, 2) for part in (query, key, value)
    )
    context = scaled_dot_product_attention(
        query, key, value, attn_mask=visible, dropout_p=attention.dropout.p if attention.training else 0.0
    )
    attended = layer.attention.output(context.transpose(1, 2).flatten(2), asking)
    output: Tensor = layer.output(layer.intermediate(attended), attended)
    return output
