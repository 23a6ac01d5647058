"""Activation Clustering (Chen et al. 2018, Algorithm 1): two clusters of each label's rows, one of them poisoned.

Clean rows have their label because of what they mean, poisoned ones because of the trigger, and a victim represents
them differently. The representations of each label's rows are reduced to a few components and cut into two clusters by
k-means; the smaller one is dropped if the rule says so: always (CodePurify), by its size or by the silhouette (both
Chen et al.; ledger P15, P20).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FastICA
from sklearn.metrics import silhouette_score

from codebackdoor.defenses.filtering import Judged
from codebackdoor.defenses.filtering.activation_clustering.settings import ActivationClusteringSettings
from codebackdoor.defenses.filtering.groups import groups, represented
from codebackdoor.defenses.views import TrainingRow, TrainingView
from codebackdoor.errors import UserError
from codebackdoor.seeding import derive
from codebackdoor.victims.representations import Floats

Bools = NDArray[np.bool_]

#: Runs of k-means from different starts; the tightest clusters are used.
STARTS = 10
#: Steps and tolerance of FastICA (those of the authors' library).
ICA_STEPS, ICA_TOLERANCE = 1000, 5e-3


@dataclass(frozen=True, slots=True)
class Clustered:
    """Two clusters of one label's rows; ``share``: that of the smaller one; ``silhouette``: None if not computed."""

    rows: int
    share: float
    silhouette: float | None
    dropped: bool


class ActivationClustering:
    """The filter; after ``judge``, ``facts`` has what was decided for each label."""

    def __init__(self, view: TrainingView, settings: ActivationClusteringSettings, seed: int) -> None:
        self._view, self._settings = view, settings
        # scikit-learn takes 32 bits
        self._seed = derive(seed, "filter", "activation_clustering") % 2**32
        self._clusters: dict[str, Clustered] = {}

    @property
    def facts(self) -> Mapping[str, object]:
        return {"clusters": {name: asdict(clustered) for name, clustered in self._clusters.items()}}

    def judge(self, rows: Sequence[TrainingRow]) -> list[Judged]:
        """Drop the smaller cluster of each group that the rule calls poisoned.

        ``detail``: ``smaller``, whether the row is in the smaller cluster, and ``suspicion``, by how much its component
        vector is nearer to that cluster's center than to the larger one's. Raises UserError if a group has no more rows
        than there are components, or if a representation is shorter.
        """
        vectors = represented(self._view, rows)
        dropped, smaller = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
        suspicions = np.zeros(len(rows))
        self._clusters = {}
        for name, indices in groups(rows).items():
            self._check(name, len(indices), vectors.shape[1])
            reduced = self._reduced(vectors[indices])
            suspicions[indices], smaller[indices] = self._split(reduced)
            clustered = self._decide(reduced, smaller[indices])
            dropped[indices] = smaller[indices] & clustered.dropped
            self._clusters[name] = clustered
        return [
            Judged(row.id, is_dropped, {"suspicion": round(suspicion, 6), "smaller": is_smaller})
            for row, is_dropped, suspicion, is_smaller in zip(
                rows, dropped.tolist(), suspicions.tolist(), smaller.tolist(), strict=True
            )
        ]

    def _check(self, group: str, count: int, length: int) -> None:
        dimensions = self._settings.dimensions
        if dimensions >= count:
            named = "there are" if group == "all" else f"label {group} has"
            raise UserError(
                f"activation_clustering: {named} {count} training rows, too few for {dimensions} components; write "
                f"`dimensions: {max(1, count - 1)}` or less"
            )
        if dimensions > length:
            raise UserError(
                f"activation_clustering: {dimensions} components of representations with {length} numbers; write "
                f"`dimensions: {length}` or less"
            )

    def _reduced(self, vectors: Floats) -> Floats:
        """Components [N, dimensions] of vectors [N, D]."""
        count = self._settings.dimensions
        if self._settings.reduction == "pca":
            reduction = PCA(count, svd_solver="full")
        else:
            reduction = FastICA(
                count, whiten="unit-variance", max_iter=ICA_STEPS, tol=ICA_TOLERANCE, random_state=self._seed
            )
        reduced: Floats = reduction.fit_transform(vectors)
        return reduced

    def _split(self, reduced: Floats) -> tuple[Floats, Bools]:
        """For each row, how much nearer it is to the center of the smaller cluster, and whether it is in it.

        Of two clusters of equal size, neither is the smaller one.
        """
        # k-means draws its starts by index: sort the rows, so that their order does not matter
        order = np.lexsort(reduced.T[::-1])
        clusters = KMeans(2, n_init=STARTS, random_state=self._seed).fit(reduced[order])
        sizes = np.bincount(clusters.labels_, minlength=2)
        small = int(np.argmin(sizes))
        distances = np.linalg.norm(reduced[:, None] - clusters.cluster_centers_[None], axis=2)
        is_small = np.empty(len(reduced), dtype=bool)
        is_small[order] = (clusters.labels_ == small) & (sizes[0] != sizes[1])
        return distances[:, 1 - small] - distances[:, small], is_small

    def _decide(self, reduced: Floats, smaller: Bools) -> Clustered:
        """Whether the smaller cluster is dropped; of two clusters of equal size neither is."""
        if not smaller.any():
            return Clustered(len(reduced), 0.5, None, dropped=False)
        settings, share, silhouette = self._settings, float(smaller.mean()), None
        if settings.rule == "smaller":
            dropped = True
        elif settings.rule == "size":
            dropped = share < settings.size_below
        else:
            silhouette = round(float(silhouette_score(reduced, smaller)), 6)
            dropped = silhouette > settings.silhouette_above
        return Clustered(len(reduced), round(share, 6), silhouette, dropped)


def build(view: TrainingView, settings: ActivationClusteringSettings, seed: int) -> ActivationClustering:
    return ActivationClustering(view, settings, seed)
