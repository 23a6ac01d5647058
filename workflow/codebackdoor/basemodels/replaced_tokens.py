"""Replaced-token detection: tell sub-tokens drawn from a masked language model from the original ones.

After ELECTRA (Clark et al. 2020): the generator fills masked positions by sampling, and the discriminator predicts for
every sub-token whether it was replaced. Here the generator is trained beforehand, and the discriminator starts from its
weights; in ELECTRA they only share their embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codebackdoor.basemodels.noise import Batch
from codebackdoor.basemodels.tokenizer import FIRST_ORDINARY, PAD
from codebackdoor.errors import UserError
from codebackdoor.types import IGNORED


class Replacer:
    """A generator (``RobertaForMaskedLM``) whose samples replace masked sub-tokens."""

    def __init__(self, generator: Any) -> None:
        self._model = generator.eval().requires_grad_(False)

    def initialize(self, discriminator: Any) -> None:
        """Copy the generator's embeddings and layers to a new ``ElectraForPreTraining`` of the same sizes."""
        body = discriminator.base_model
        weights = self._model.base_model.state_dict()
        positions = "embeddings.position_embeddings.weight"
        # RoBERTa's first position is the one after the padding's
        weights[positions] = weights[positions][PAD + 1 :]
        if _shapes(weights) != _shapes(body.state_dict()):
            raise UserError("pretraining.discriminator: write the sizes of its generator, pretraining.encoder")
        body.load_state_dict(weights)

    @torch.no_grad()
    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        """Fill the masked positions of a batch, whose labels hold the original sub-tokens.

        The labels of the result are 1 where a sub-token was replaced, 0 elsewhere, and IGNORED at special tokens.
        """
        masked = batch.labels != IGNORED
        original = torch.where(masked, batch.labels, batch.ids)
        hidden = self._model.base_model(input_ids=batch.ids, attention_mask=batch.ids != PAD).last_hidden_state
        ids = batch.ids.clone()
        ids[masked] = _sampled(self._model.lm_head(hidden[masked]), generator)
        labels = (ids != original).long().masked_fill(original < FIRST_ORDINARY, IGNORED)
        return Batch(ids, labels)

    @torch.no_grad()
    def quality(self, discriminator: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        """Return the area under the ROC curve over all sub-tokens, and both rates at a probability of one half.

        ``recall`` is the share of replaced sub-tokens that are reported, ``false_alarms`` that of original ones.
        """
        from scipy.stats import mannwhitneyu

        logits, labels = [], []
        for batch in batches:
            labeled = batch.labels != IGNORED
            logits.append(discriminator(input_ids=batch.ids, attention_mask=batch.ids != PAD).logits[labeled])
            labels.append(batch.labels[labeled])
        scores, replaced = torch.cat(logits), torch.cat(labels) == 1
        positives, negatives = scores[replaced].numpy(), scores[~replaced].numpy()
        statistic = mannwhitneyu(positives, negatives, method="asymptotic").statistic
        return {
            "auc": round(float(statistic / (len(positives) * len(negatives))), 4),
            "recall": round(float((positives > 0).mean()), 4),
            "false_alarms": round(float((negatives > 0).mean()), 4),
        }


def _shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}


def _sampled(logits: Tensor, generator: np.random.Generator) -> Tensor:
    """One id [M] drawn from each row of logits [M, V]."""
    cumulative = logits.float().softmax(-1).cumsum(-1)
    point = torch.from_numpy(generator.random((len(cumulative), 1))).float() * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point).squeeze(1).clamp(max=cumulative.shape[1] - 1)
