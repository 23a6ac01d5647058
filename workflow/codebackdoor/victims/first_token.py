"""The first sub-token's last hidden state of a RoBERTa, where nothing else is read (BERT's [CLS] pooling).

The last layer then needs keys and values of every sub-token, but query, attention output and feed-forward network of
the first alone: 10 of its 12 units of matrix work fall away at every other place, which in a two-layer model is 40 % of
all. The result is the model's own, up to rounding; gradients and dropout are those of the whole computation.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def first_token(body: Any, embedded: Tensor, mask: Tensor) -> Tensor:
    """Return [B, H] of token embeddings [B, T, H] and mask [B, T] (int64, padded on the right).

    ``body`` is a transformers ``RobertaModel``.
    """
    hidden: Tensor = body.embeddings(inputs_embeds=embedded)
    visible = None if bool(mask.all()) else mask[:, None, None, :].bool()
    *inner, last = body.encoder.layer
    for layer in inner:
        hidden = _layer(layer, hidden, hidden, visible)
    return _layer(last, hidden[:, :1], hidden, visible)[:, 0]


def _layer(layer: Any, asking: Tensor, hidden: Tensor, visible: Tensor | None) -> Tensor:
    """One transformer layer for the places ``asking`` [B, Q, H], which attend to ``hidden`` [B, T, H]: [B, Q, H]."""
    attention = layer.attention.self
    query, key, value = (
        part.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)
        for part in (attention.query(asking), attention.key(hidden), attention.value(hidden))
    )
    context = scaled_dot_product_attention(
        query, key, value, attn_mask=visible, dropout_p=attention.dropout.p if attention.training else 0.0
    )
    attended = layer.attention.output(context.transpose(1, 2).flatten(2), asking)
    output: Tensor = layer.output(layer.intermediate(attended), attended)
    return output
