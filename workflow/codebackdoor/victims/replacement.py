"""Replaced-token detection: sub-tokens drawn from a masked language model, to be told from those that stood there.

After ELECTRA (Clark et al. 2020): the generator fills masked places by sampling, and the discriminator says of every
sub-token whether it was replaced. The generator is finished before; the discriminator starts from its weights, where
ELECTRA shares the embeddings of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codebackdoor.errors import UserError
from codebackdoor.victims.pretraining import FIRST_ORDINARY, IGNORED, PAD, Batch


class Replacer:
    """A generator (``RobertaForMaskedLM``) whose samples replace what is masked."""

    def __init__(self, generator: Any) -> None:
        self._model = generator.eval().requires_grad_(False)

    def start(self, discriminator: Any) -> None:
        """Copy the generator's embeddings and layers to a fresh ``ElectraForPreTraining`` of the same sizes."""
        own = discriminator.electra
        given = self._model.roberta.state_dict()
        positions = "embeddings.position_embeddings.weight"
        # RoBERTa's positions begin after that of the padding
        given[positions] = given[positions][PAD + 1 :]
        if {name: one.shape for name, one in given.items()} != {
            name: one.shape for name, one in own.state_dict().items()
        }:
            raise UserError("pretraining.discriminator: write the sizes of its generator, pretraining.encoder")
        own.load_state_dict(given)

    @torch.no_grad()
    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        """Fill the masked places of a batch, whose labels hold what stood there.

        The labels of the result are 1 where another sub-token stands now, 0 elsewhere, IGNORED at special ones.
        """
        asked = batch.labels != IGNORED
        original = torch.where(asked, batch.labels, batch.ids)
        hidden = self._model.roberta(input_ids=batch.ids, attention_mask=batch.ids != PAD).last_hidden_state
        ids = batch.ids.clone()
        ids[asked] = _sampled(self._model.lm_head(hidden[asked]), generator)
        labels = (ids != original).long().masked_fill(original < FIRST_ORDINARY, IGNORED)
        return Batch(ids, labels)

    @torch.no_grad()
    def quality(self, discriminator: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        """Area under the ROC curve over all sub-tokens; of the replaced ones, and of the others, the share called so.

        ``recall`` and ``false_alarms`` are at a probability of one half.
        """
        from scipy.stats import mannwhitneyu

        logits, labels = [], []
        for batch in batches:
            asked = batch.labels != IGNORED
            logits.append(discriminator(input_ids=batch.ids, attention_mask=batch.ids != PAD).logits[asked])
            labels.append(batch.labels[asked])
        scores, replaced = torch.cat(logits), torch.cat(labels) == 1
        yes, no = scores[replaced].numpy(), scores[~replaced].numpy()
        found = mannwhitneyu(yes, no, method="asymptotic").statistic / (len(yes) * len(no))
        return {
            "auc": round(float(found), 4),
            "recall": round(float((yes > 0).mean()), 4),
            "false_alarms": round(float((no > 0).mean()), 4),
        }


def _sampled(logits: Tensor, generator: np.random.Generator) -> Tensor:
    """One id [M] drawn by each row of logits [M, V]."""
    below = logits.float().softmax(-1).cumsum(-1)
    point = torch.from_numpy(generator.random((len(below), 1))).float() * below[:, -1:]
    return torch.searchsorted(below, point).squeeze(1).clamp(max=below.shape[1] - 1)
