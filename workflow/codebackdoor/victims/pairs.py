"""Classifiers of pairs: one body reads both functions apart, a head reads the two vectors side by side.

This is the clone detector of CodeXGLUE (RoBERTa) and of CodeT5's and UniXcoder's repositories. Folders are in hub
format; transformers has no class of this kind.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.models.gpt_bigcode.modeling_gpt_bigcode import GPTBigCodeModel, GPTBigCodePreTrainedModel
from transformers.models.roberta.modeling_roberta import RobertaModel, RobertaPreTrainedModel
from transformers.models.t5.modeling_t5 import T5Model, T5PreTrainedModel

#: Vectors that the head reads: both, or with them the size of their difference and their product.
FEATURES = {"concat": 2, "interaction": 4}


class PairHead(nn.Module):
    """Two dense layers with tanh between them on the vectors of both functions; ``config.pair_features`` says which."""

    def __init__(self, config: Any, dropout: float) -> None:
        super().__init__()
        self.features = str(getattr(config, "pair_features", "concat"))
        self.dense = nn.Linear(FEATURES[self.features] * config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits [B, C] of two vectors [B, H]."""
        read = [first, second]
        if self.features == "interaction":
            read += [(first - second).abs(), first * second]
        hidden = torch.tanh(self.dense(self.dropout(torch.cat(read, -1))))
        found: Tensor = self.out_proj(self.dropout(hidden))
        return found


class _NewHead:
    """Initialises the head of a class whose own rules know nothing of it."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, PairHead):
            for layer in (module.dense, module.out_proj):
                init.normal_(layer.weight, std=0.02)
                init.zeros_(layer.bias)
        super()._init_weights(module)  # type: ignore[misc]


class RobertaForPairs(_NewHead, RobertaPreTrainedModel):  # type: ignore[misc]
    """CodeBERT, UniXcoder."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.roberta = RobertaModel(config, add_pooling_layer=False)
        self.classifier = PairHead(config, config.hidden_dropout_prob)
        self.post_init()


class T5ForPairs(_NewHead, T5PreTrainedModel):  # type: ignore[misc]
    """CodeT5."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.transformer = T5Model(config)
        self.classifier = PairHead(config, config.dropout_rate)
        self.post_init()


class GPTBigCodeForPairs(_NewHead, GPTBigCodePreTrainedModel):  # type: ignore[misc]
    """StarCoder."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.transformer = GPTBigCodeModel(config)
        self.classifier = PairHead(config, config.resid_pdrop)
        self.post_init()
