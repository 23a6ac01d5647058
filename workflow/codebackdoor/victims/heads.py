"""This project's own heads, for cases without a transformers class: pairs, and models of the default family.

The head for pairs is the clone detector of CodeXGLUE (RoBERTa) and of CodeT5's and UniXcoder's repositories: one body
reads both functions separately, and the head reads the two concatenated vectors. Folders are in hub format.
"""

from __future__ import annotations

from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from codebackdoor.victims.families import family_of

#: Number of vectors that the head of a pair reads: both, or both plus their absolute difference and their product.
FEATURES = {"concat": 2, "interaction": 4}


class DenseHead(nn.Module):
    """Two dense layers with tanh between them, on one vector or a pair (see ``config.pair_features``)."""

    def __init__(self, config: Any, texts: int) -> None:
        super().__init__()
        self.features = str(getattr(config, "pair_features", "concat"))
        width = FEATURES[self.features] if texts == 2 else 1
        fields = family_of(config.model_type).dropout_fields(config)
        self.dense = nn.Linear(width * config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout((getattr(config, fields[0]) or 0.0) if fields else 0.0)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, *vectors: Tensor) -> Tensor:
        """Logits [B, C] of one or two vectors [B, H]."""
        features = list(vectors)
        if len(vectors) == 2 and self.features == "interaction":
            first, second = vectors
            features += [(first - second).abs(), first * second]
        hidden = torch.tanh(self.dense(self.dropout(torch.cat(features, -1))))
        logits: Tensor = self.out_proj(self.dropout(hidden))
        return logits


@cache
def with_head(body: Any, name: str, texts: int) -> Any:
    """A model class ``name``: the transformers class ``body`` with a head for one or two texts."""
    base: Any = next(parent for parent in body.__mro__[1:] if issubclass(parent, PreTrainedModel))
    # the pooler would be unused
    options = {"add_pooling_layer": False} if "add_pooling_layer" in signature(body.__init__).parameters else {}

    class Headed(base):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            setattr(self, self.base_model_prefix, body(config, **options))
            self.classifier = DenseHead(config, texts)
            self.post_init()

        def _init_weights(self, module: nn.Module) -> None:
            # the base class has no initialization for this head
            if isinstance(module, DenseHead):
                for layer in (module.dense, module.out_proj):
                    init.normal_(layer.weight, std=0.02)
                    init.zeros_(layer.bias)
            super()._init_weights(module)

    Headed.__name__ = Headed.__qualname__ = name
    return Headed
