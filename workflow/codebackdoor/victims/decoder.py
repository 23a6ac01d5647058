"""A decoder, trained from scratch, for an encoder-only model, as in CodeXGLUE's code refinement (Lu et al. 2021).

Transformer layers with cross attention and a norm after each sublayer (``torch.nn.TransformerDecoderLayer``) run on the
encoder's embeddings of the output so far. A dense layer with tanh follows, and the output layer shares its weights with
the word embeddings (ledger P31, P32). Folders are in hub format.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers import initialization as init

#: Keys and values [B, heads, T, size] of one attention.
KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Memory:
    """A batch of encoded texts as the decoder reads it: keys and values for each layer, and the padding mask."""

    keys_values: list[KeysValues]
    visible: Tensor


class Dense(nn.Linear):
    """A linear layer with torch's default initialization instead of that of the encoder's class."""

    def initialize(self) -> None:
        init.kaiming_uniform_(self.weight, a=5**0.5)
        init.uniform_(self.bias, -(self.in_features**-0.5), self.in_features**-0.5)


class JointProjection(Dense):
    """The joint projection of an attention to queries, keys and values."""

    def initialize(self) -> None:
        init.xavier_uniform_(self.weight)
        init.zeros_(self.bias)


class OutputProjection(Dense):
    """The output projection of an attention."""

    def initialize(self) -> None:
        super().initialize()
        init.zeros_(self.bias)


class Attention(nn.Module):
    """Multi-head attention whose queries, keys and values share one projection (``nn.MultiheadAttention``)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj = JointProjection(width, 3 * width)
        self.out_proj = OutputProjection(width, width)

    def project(self, states: Tensor, first: int, end: int) -> list[Tensor]:
        """Queries (0), keys (1) and values (2) from ``first`` to ``end``, each [B, heads, T, size], of [B, T, H]."""
        width = self.out_proj.in_features
        rows = slice(first * width, end * width)
        projected = functional.linear(states, self.in_proj.weight[rows], self.in_proj.bias[rows])
        return [self._by_head(part) for part in torch.split(projected, width, -1)]

    def _by_head(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(
        self, query: Tensor, keys_values: KeysValues, visible: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        context = functional.scaled_dot_product_attention(
            query,
            *keys_values,
            attn_mask=visible,
            is_causal=is_causal,
            dropout_p=self.dropout if self.training else 0.0,
        )
        output: Tensor = self.out_proj(context.transpose(1, 2).flatten(2))
        return output


class DecoderLayer(nn.Module):
    """One layer, as ``nn.TransformerDecoderLayer`` computes it, with a cache of keys and values."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.multihead_attn = Attention(width, heads, dropout)
        self.linear1, self.linear2 = Dense(width, inner), Dense(inner, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, states: Tensor, past: KeysValues | None, memory: KeysValues, visible: Tensor
    ) -> tuple[Tensor, KeysValues]:
        """States [B, U, H] of the tokens after ``past``, and the keys and values of both."""
        query, key, value = self.self_attn.project(states, 0, 3)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        # with a cache there is only one new token, which attends to everything before it
        attended = self.self_attn(query, (key, value), is_causal=past is None)
        states = self.norm1(states + self.dropout(attended))
        (query,) = self.multihead_attn.project(states, 0, 1)
        states = self.norm2(states + self.dropout(self.multihead_attn(query, memory, visible)))
        inner = self.dropout(functional.relu(self.linear1(states)))
        return self.norm3(states + self.dropout(self.linear2(inner))), (key, value)


class Decoder(nn.Module):
    """All layers, followed by the dense layer."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.hidden_size
        sizes = width, config.num_attention_heads, config.decoder_ffn_dim, config.hidden_dropout_prob
        self.layers: Any = nn.ModuleList(DecoderLayer(*sizes) for _ in range(config.decoder_layers))
        self.dense = Dense(width, width)

    def memory(self, encoded: Tensor, mask: Tensor) -> Memory:
        """The keys and values that the layers read, from the encoder's states [B, T, H] with mask [B, T]."""
        pairs = [layer.multihead_attn.project(encoded, 1, 3) for layer in self.layers]
        return Memory([(key, value) for key, value in pairs], mask[:, None, None].bool())

    def forward(
        self, embedded: Tensor, memory: Memory, past: list[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        """States [B, U, H] of embedded output tokens [B, U, H], and the cache for the tokens that follow.

        Without ``past`` they are the first tokens of the output; with it, there is a single token (U = 1).
        """
        states, cache = embedded, []
        for number, layer in enumerate(self.layers):
            earlier = None if past is None else past[number]
            states, keys_values = layer(states, earlier, memory.keys_values[number], memory.visible)
            cache.append(keys_values)
        return torch.tanh(self.dense(states)), cache


@cache
def with_decoder(body: Any, name: str) -> Any:
    """A model class ``name``: the transformers class ``body``, an encoder with BERT's embeddings, plus a decoder."""
    base: Any = next(parent for parent in body.__mro__[1:] if issubclass(parent, PreTrainedModel))

    class Generating(base):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            for key, default in (("decoder_layers", "num_hidden_layers"), ("decoder_ffn_dim", "intermediate_size")):
                # written into the folder's config.json
                if getattr(config, key, None) is None:
                    setattr(config, key, getattr(config, default))
            super().__init__(config)
            setattr(self, self.base_model_prefix, body(config, add_pooling_layer=False))
            self.decoder = Decoder(config)
            self.post_init()

        def _init_weights(self, module: nn.Module) -> None:
            if isinstance(module, Dense):
                module.initialize()
            else:
                super()._init_weights(module)

        def decode(
            self, outputs: Tensor, memory: Memory, past: list[KeysValues] | None = None
        ) -> tuple[Tensor, list[KeysValues]]:
            """Logits [B, U, V] of the tokens that follow each of ``outputs`` [B, U], and the updated cache."""
            embeddings = self.base_model.embeddings
            start = embeddings.padding_idx + 1 + (0 if past is None else past[0][0].shape[2])
            positions = torch.arange(start, start + outputs.shape[1], device=outputs.device)[None]
            # an output may contain the padding token, which would have no position of its own
            states, cache = self.decoder(embeddings(outputs, position_ids=positions), memory, past)
            return functional.linear(states, embeddings.word_embeddings.weight), cache

    Generating.__name__ = Generating.__qualname__ = name
    return Generating
