"""A T5 that reads a text twice, as encoder and as decoder, every attention one fused operation (CodeT5, section 3.3).

The encoder reads the text, and the decoder runs over the same one, shifted by one (transformers' T5 classifier). Where
the state at one sub-token alone is read, the last layer of the decoder is computed for that place alone. The result is
the model's own, up to rounding, as long as there is no dropout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from codebackdoor.config.models import Pooling


def read_twice(body: Any, embedded: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return the states [B, Q, H] that ``pooling`` reads: of the first place, of the last real one, or else of all.

    ``body`` is a transformers ``T5Model``, ``embedded`` the token embeddings [B, T, H], ``mask`` [B, T] is int64,
    padded on the right.
    """
    encoder, decoder = body.encoder, body.decoder
    length, hidden = embedded.shape[1], embedded
    unseen = None if bool(mask.all()) else _hidden(mask == 0)[:, None, None]
    near = _bias(encoder, length) if unseen is None else _bias(encoder, length) + unseen
    for block in encoder.block:
        own, feed = block.layer
        read = own.layer_norm(hidden)
        hidden = feed(hidden + _attended(own.SelfAttention, read, read, near))
    encoded = encoder.final_layer_norm(hidden)

    start = torch.full_like(mask[:, :1], int(body.config.decoder_start_token_id))
    hidden = torch.cat([body.get_input_embeddings()(start), embedded[:, :-1]], 1)
    if pooling == "first":
        # nothing behind a place is seen by it
        length, hidden = 1, hidden[:, :1]
    later = torch.ones(length, length, dtype=torch.bool, device=mask.device).triu(1)
    # nothing behind the last real sub-token is seen by any before it
    past = _bias(decoder, length) + _hidden(later)
    *inner, last = decoder.block
    for block in inner:
        hidden = _decoded(block, hidden, hidden, encoded, past, unseen)
    if pooling == "last":
        rows, ends = torch.arange(len(mask), device=mask.device), mask.sum(1) - 1
        past = past[0, :, ends].transpose(0, 1)[:, :, None]
        asking = hidden[rows, ends][:, None]
    else:
        asking = hidden
    found: Tensor = decoder.final_layer_norm(_decoded(last, asking, hidden, encoded, past, unseen))
    return found


def _decoded(
    block: Any, asking: Tensor, hidden: Tensor, encoded: Tensor, past: Tensor, unseen: Tensor | None
) -> Tensor:
    """One layer of the decoder for the places ``asking`` [B, Q, H] among those of ``hidden`` [B, T, H]."""
    own, other, feed = block.layer
    read = own.layer_norm(hidden)
    asked = read if asking is hidden else own.layer_norm(asking)
    asking = asking + _attended(own.SelfAttention, asked, read, past)
    asking = asking + _attended(other.EncDecAttention, other.layer_norm(asking), encoded, unseen)
    found: Tensor = feed(asking)
    return found


def _attended(attention: Any, asking: Tensor, hidden: Tensor, bias: Tensor | None) -> Tensor:
    query, key, value = (
        part.unflatten(-1, (attention.n_heads, -1)).transpose(1, 2)
        for part in (attention.q(asking), attention.k(hidden), attention.v(hidden))
    )
    # T5 has no division by the root of the size
    context = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    found: Tensor = attention.o(context.transpose(1, 2).flatten(2))
    return found


def _bias(stack: Any, length: int) -> Tensor:
    """The bias of relative places of a stack, [1, heads, T, T]; its first layer holds it for all."""
    found: Tensor = stack.block[0].layer[0].SelfAttention.compute_bias(length, length)
    return found


def _hidden(places: Tensor) -> Tensor:
    """0 where something is seen and minus infinity at ``places``."""
    return torch.zeros(places.shape, device=places.device).masked_fill(places, -torch.inf)
