"""T5: CodeT5.

Its victims read a text twice (CodeT5, section 3.3): the encoder reads it, and the decoder runs over the same text,
shifted by one (transformers' T5 classifier). Without dropout, every attention is one fused operation, and if only the
state at one sub-token is used, the decoder's last layer is computed at that position alone; the result equals that of
the model's own layers up to rounding. With dropout, the model's own layers run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codebackdoor.config.base import Head
from codebackdoor.config.model_settings import Pooling
from codebackdoor.heads import HEADS
from codebackdoor.victims.families.base import Family, ModelClass, pooled

if TYPE_CHECKING:
    from torch import Tensor

    from codebackdoor.victims.victim import Victim

_UNUSED = ("lm_head.",)


class T5(Family):
    classes: Mapping[Head, ModelClass] | None = {
        "classification": ModelClass("t5", "T5ForSequenceClassification", ("classification_head.",), _UNUSED),
        "pair": ModelClass("t5", "T5ForPairs", ("classifier.",), _UNUSED, "T5Model", 2),
        "retrieval": ModelClass("t5", "T5Model", (), _UNUSED),
        "generation": ModelClass("t5", "T5ForConditionalGeneration"),
    }
    pooling: Pooling = "last"
    head_name = "classification_head"
    special_tokens: Mapping[str, str] = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    pads_with_end = False
    # positions are relative
    position_keys = ()
    dropout_names = ("dropout_rate", "classifier_dropout")

    def adapt_small_base(self, model: Any, head: Head) -> None:
        """Scale the decoder's states by d_model^-0.5, as T5's output layer does if it shares the embeddings.

        A new head does not scale them: its tanh would be saturated by the states of the shipped base, and clone
        detection would stay at chance (docs/dev/feasibility.md).
        """
        import torch

        if HEADS[head].predicts_label and model.config.tie_word_embeddings:
            with torch.no_grad():
                model.base_model.decoder.final_layer_norm.weight *= model.config.d_model**-0.5

    def states(self, victim: Victim, embedded: Tensor, mask: Tensor) -> Tensor:
        """The decoder's states, with dropout: at the first position if pooling reads only it, else at all of them."""
        import torch

        body = victim.model.base_model
        positions = 1 if victim.pooling == "first" else None
        encoded = body.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        start = torch.full_like(mask[:, :1], int(body.config.decoder_start_token_id))
        shifted = torch.cat([body.get_input_embeddings()(start), embedded[:, :-1]], 1)[:, :positions]
        states: Tensor = body.decoder(
            inputs_embeds=shifted,
            attention_mask=mask[:, :positions],
            encoder_hidden_states=encoded,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        return states

    def vectors(self, victim: Victim, embedded: Tensor, mask: Tensor) -> Tensor:
        body = victim.model.base_model
        if body.training and body.config.dropout_rate:
            return super().vectors(victim, embedded, mask)
        states = encoder_decoder_states(body, embedded, mask, victim.pooling)
        return states[:, 0] if victim.pooling in ("first", "last") else pooled(states, mask, victim.pooling)

    def last_block(self, victim: Victim) -> Any:
        return victim.model.base_model.decoder.block[-1]


def encoder_decoder_states(body: Any, embedded: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return the states [B, Q, H] that ``pooling`` needs: at the first position, at the last real one, or at all.

    ``body`` is a transformers ``T5Model``, ``embedded`` the token embeddings [B, T, H], ``mask`` [B, T] is int64,
    padded on the right.
    """
    import torch

    encoder, decoder = body.encoder, body.decoder
    length, hidden = embedded.shape[1], embedded
    padding = None if bool(mask.all()) else _blocked(mask == 0)[:, None, None]
    bias = _position_bias(encoder, length) if padding is None else _position_bias(encoder, length) + padding
    for block in encoder.block:
        attention, feed_forward = block.layer
        normed = attention.layer_norm(hidden)
        hidden = feed_forward(hidden + _attended(attention.SelfAttention, normed, normed, bias))
    encoded = encoder.final_layer_norm(hidden)

    start = torch.full_like(mask[:, :1], int(body.config.decoder_start_token_id))
    hidden = torch.cat([body.get_input_embeddings()(start), embedded[:, :-1]], 1)
    if pooling == "first":
        # the first position attends to nothing after it
        length, hidden = 1, hidden[:, :1]
    later = torch.ones(length, length, dtype=torch.bool, device=mask.device).triu(1)
    # padding comes after the last real sub-token, so causality hides it
    past = _position_bias(decoder, length) + _blocked(later)
    *inner, last = decoder.block
    for block in inner:
        hidden = _decoder_layer(block, hidden, hidden, encoded, past, padding)
    queries = hidden
    if pooling == "last":
        rows, ends = torch.arange(len(mask), device=mask.device), mask.sum(1) - 1
        past = past[0, :, ends].transpose(0, 1)[:, :, None]
        queries = hidden[rows, ends][:, None]
    states: Tensor = decoder.final_layer_norm(_decoder_layer(last, queries, hidden, encoded, past, padding))
    return states


def _decoder_layer(
    block: Any, queries: Tensor, hidden: Tensor, encoded: Tensor, past: Tensor, padding: Tensor | None
) -> Tensor:
    """One layer of the decoder at the positions ``queries`` [B, Q, H] among those of ``hidden`` [B, T, H]."""
    attention, cross_attention, feed_forward = block.layer
    normed = attention.layer_norm(hidden)
    normed_queries = normed if queries is hidden else attention.layer_norm(queries)
    queries = queries + _attended(attention.SelfAttention, normed_queries, normed, past)
    normed_queries = cross_attention.layer_norm(queries)
    queries = queries + _attended(cross_attention.EncDecAttention, normed_queries, encoded, padding)
    states: Tensor = feed_forward(queries)
    return states


def _attended(attention: Any, queries: Tensor, hidden: Tensor, bias: Tensor | None) -> Tensor:
    from torch.nn.functional import scaled_dot_product_attention

    query, key, value = (
        part.unflatten(-1, (attention.n_heads, -1)).transpose(1, 2)
        for part in (attention.q(queries), attention.k(hidden), attention.v(hidden))
    )
    # T5 does not divide scores by the root of the head size
    context = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    output: Tensor = attention.o(context.transpose(1, 2).flatten(2))
    return output


def _position_bias(stack: Any, length: int) -> Tensor:
    """The relative position bias of a stack, [1, heads, T, T]; only its first layer stores it."""
    bias: Tensor = stack.block[0].layer[0].SelfAttention.compute_bias(length, length)
    return bias


def _blocked(positions: Tensor) -> Tensor:
    """Minus infinity at ``positions``, 0 elsewhere."""
    import torch

    return torch.zeros(positions.shape, device=positions.device).masked_fill(positions, -torch.inf)
