"""How likely it is that a text was tampered with, by a replaced-token discriminator's scores of its sub-tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from codebackdoor.victims.batching import computed, pad
from codebackdoor.victims.inference import TOKENS


class Discriminator:
    """An ELECTRA discriminator and its tokenizer; longer texts are truncated."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._room = min(int(model.config.max_position_embeddings), int(tokenizer.model_max_length))

    def suspicions(self, texts: Sequence[str]) -> list[float]:
        """The highest probability, among the sub-tokens of each text, of having been replaced; six decimals."""
        if not texts:
            return []
        rows = self._tokenizer(list(texts), truncation=True, max_length=self._room)["input_ids"]
        special = torch.tensor(self._tokenizer.all_special_ids)

        def compute(batch: Sequence[int]) -> list[float]:
            ids, mask = pad([rows[index] for index in batch], int(self._tokenizer.pad_token_id))
            device = self._model.device
            logits = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits.float().cpu()
            logits = logits.masked_fill(torch.isin(ids, special), -torch.inf)
            return [round(value, 6) for value in logits.max(1).values.sigmoid().tolist()]

        with torch.inference_mode():
            return computed([len(row) for row in rows], TOKENS[self._model.device.type], compute)
