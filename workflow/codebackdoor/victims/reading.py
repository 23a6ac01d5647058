"""How a victim of code understanding reads: each text becomes a vector, and a head judges one vector or two.

Pooling: a RoBERTa's first sub-token (CodeBERT) or the mean of all (UniXcoder); the last sub-token of a decoder
(StarCoder), or of the decoder that an encoder-decoder runs over its own input (CodeT5). Classification judges one
vector, a pair classifier two side by side (CodeXGLUE's clone detection), a dual encoder by their similarity.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from codebackdoor.config.models import Pooling
from codebackdoor.victims.first_token import first_token, first_token_of_variants
from codebackdoor.victims.read_twice import read_twice
from codebackdoor.victims.victim import Victim


def embed(victim: Victim, ids: Tensor) -> Tensor:
    """Return the token embeddings [B, T, H] of ids [B, T], as the victim's first layer gets them."""
    found: Tensor = victim.model.get_input_embeddings()(ids)
    return found


def vectors(victim: Victim, embedded: Tensor, mask: Tensor) -> Tensor:
    """Return one vector a text, [B, H], of token embeddings [B, T, H] and mask [B, T] (int64, padded on the right)."""
    body = victim.model.base_model
    kind = body.config.model_type
    if kind == "roberta":
        if victim.pooling == "first":
            return _projected(victim, body, first_token(body, embedded, mask))
        return _of_all(body(inputs_embeds=embedded, attention_mask=mask).last_hidden_state, mask, victim.pooling)
    if kind == "t5" and not (body.training and body.config.dropout_rate):
        states = read_twice(body, embedded, mask, victim.pooling)
        return states[:, 0] if victim.pooling in ("first", "last") else _of_all(states, mask, victim.pooling)
    if kind == "t5":
        hidden = _decoded(body, embedded, mask, 1 if victim.pooling == "first" else None)
    else:
        hidden = body(inputs_embeds=embedded, attention_mask=mask, use_cache=False).last_hidden_state
    if victim.pooling == "first":
        return hidden[:, 0]
    if victim.pooling == "last":
        return hidden[torch.arange(len(mask), device=mask.device), mask.sum(1) - 1]
    return _of_all(hidden, mask, victim.pooling)


def variant_vectors(victim: Victim, ids: Tensor, mask: Tensor) -> Tensor:
    """``vectors`` of ids [B, T] that are variants of a few texts, which some victims read faster; without gradient."""
    body = victim.model.base_model
    if body.config.model_type != "roberta" or victim.pooling != "first":
        return vectors(victim, embed(victim, ids), mask)
    return _projected(victim, body, first_token_of_variants(body, ids, mask))


def _of_all(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    if pooling == "max":
        return hidden.masked_fill(mask[:, :, None] == 0, -torch.inf).amax(1)
    real = mask[:, :, None].to(hidden.dtype)
    return (hidden * real).sum(1) / real.sum(1)


def _projected(victim: Victim, body: Any, pooled: Tensor) -> Tensor:
    """A dual encoder of CodeBERT: as its own pooler has it."""
    if victim.head == "retrieval" and victim.pooling == "first":
        projected: Tensor = body.pooler(pooled[:, None])
        return projected
    return pooled


def _decoded(body: Any, embedded: Tensor, mask: Tensor, places: int | None = None) -> Tensor:
    """The decoder's states at the first ``places`` of the text that the encoder read, or at all of them; with dropout.

    The decoder reads it shifted by one (transformers' T5 classifier).
    """
    encoded = body.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
    start = torch.full_like(mask[:, :1], int(body.config.decoder_start_token_id))
    shifted = torch.cat([body.get_input_embeddings()(start), embedded[:, :-1]], 1)[:, :places]
    hidden: Tensor = body.decoder(
        inputs_embeds=shifted,
        attention_mask=mask[:, :places],
        encoder_hidden_states=encoded,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    return hidden


def judge(victim: Victim, *read: Tensor) -> Tensor:
    """Return logits [B, C] of one vector a row (classification) or two (pair); of two, [B], similarities (retrieval).

    Logits are divided by the victim's temperature. A dual encoder's first vector is the query's.
    """
    model = victim.model
    if victim.head == "retrieval":
        query, code = read
        return similarities(victim, query, code)
    if victim.head == "pair":
        logits: Tensor = model.classifier(*read)
        return logits / victim.temperature
    (vector,) = read
    kind = model.config.model_type
    if kind == "roberta":
        logits = model.classifier(vector[:, None])
    else:
        logits = (model.classification_head if kind == "t5" else model.score)(vector)
    return logits / victim.temperature


def similarities(victim: Victim, query: Tensor, code: Tensor) -> Tensor:
    """Similarity of the last dimension's vectors, shapes broadcast: the cosine, or the inner product."""
    if victim.similarity == "cosine":
        query, code = functional.normalize(query, dim=-1), functional.normalize(code, dim=-1)
    return (query * code).sum(-1)


def scores(victim: Victim, *inputs: tuple[Tensor, Tensor]) -> Tensor:
    """``judge`` of ids and masks [B, T], one pair for each text of a row."""
    return judge(victim, *(vectors(victim, embed(victim, ids), mask) for ids, mask in inputs))
