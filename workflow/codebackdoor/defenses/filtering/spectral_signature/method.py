"""Spectral Signature (Tran et al. 2018, Algorithm 1): rows that stick out along the direction of greatest variation.

A backdoor adds a direction to the representations of the target label's rows, strong enough to be a top singular vector
of the centered representations. A row's score is its squared projection on that vector, or, with k vectors, the sum of
k squared projections (Ramakrishnan and Albarghouthi 2022). A stated share of the rows of each label is dropped, those
with the highest scores. The method knows neither the poison rate nor the target (ledger P15, P19).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from codebackdoor.defenses.filtering import Judged
from codebackdoor.defenses.filtering.groups import groups, represented
from codebackdoor.defenses.filtering.spectral_signature.settings import SpectralSignatureSettings
from codebackdoor.defenses.thresholds import finite, highest
from codebackdoor.defenses.views import TrainingRow, TrainingView
from codebackdoor.victims.representations import Floats


def spectral_scores(vectors: Floats, mean: Floats, count: int) -> Floats:
    """Sums [N] of the squared projections of vectors [N, D], centered at ``mean`` [D], on the top singular vectors.

    ``count``: number of right singular vectors; of more than D, all D.
    """
    centered = vectors - mean
    # the right singular vectors are the eigenvectors of this small matrix, in ascending order
    _, directions = np.linalg.eigh(centered.T @ centered)
    scores: Floats = np.square(centered @ directions[:, -count:]).sum(axis=1)
    return scores


class SpectralSignature:
    """The filter; ``facts`` has the threshold of each label's rows after ``judge`` (None: all or none are dropped)."""

    def __init__(self, view: TrainingView, settings: SpectralSignatureSettings) -> None:
        self._view, self._settings = view, settings
        self._thresholds: dict[str, float | None] = {}

    @property
    def facts(self) -> Mapping[str, object]:
        return {"thresholds": self._thresholds}

    def judge(self, rows: Sequence[TrainingRow]) -> list[Judged]:
        """Drop the share of each group with the highest scores. ``detail`` holds the score as ``suspicion``.

        Rows that tie at the limit are all kept, so that the order of the rows does not matter.
        """
        vectors = represented(self._view, rows)
        scores, thresholds = np.empty(len(rows)), np.empty(len(rows))
        self._thresholds = {}
        for name, indices in groups(rows).items():
            centered_on = vectors[indices] if self._settings.centered == "group" else vectors
            scores[indices] = spectral_scores(vectors[indices], centered_on.mean(axis=0), self._settings.vectors)
            threshold = highest(scores[indices].tolist(), self._settings.share)
            thresholds[indices] = threshold
            self._thresholds[name] = finite(round(threshold, 6) if math.isfinite(threshold) else threshold)
        return [
            Judged(row.id, score > threshold, {"suspicion": round(score, 6)})
            for row, score, threshold in zip(rows, scores.tolist(), thresholds.tolist(), strict=True)
        ]


def build(view: TrainingView, settings: SpectralSignatureSettings, seed: int) -> SpectralSignature:  # noqa: ARG001
    return SpectralSignature(view, settings)
