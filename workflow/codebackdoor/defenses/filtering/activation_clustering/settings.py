"""Settings of Activation Clustering."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Head, ReadWhere, Reference
from codebackdoor.costs.work import FilteringJob, Work
from codebackdoor.defenses.filtering.settings import REPRESENTED, VictimFilterSettings, represented_once


class ActivationClusteringSettings(VictimFilterSettings):
    """Drops the smaller of two clusters of each label's rows, if a rule calls it poisoned (Chen et al. 2018)."""

    label: ClassVar[str] = "Activation Clustering"
    reference: ClassVar[Reference | None] = Reference(
        authors="Bryant Chen, Wilka Carvalho, Nathalie Baracaldo, Heiko Ludwig, Benjamin Edwards, Taesung Lee, "
        "Ian Molloy, Biplav Srivastava",
        year=2018,
        title="Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering",
        url="https://arxiv.org/abs/1811.03728",
    )
    fits: ClassVar[tuple[Head, ...]] = REPRESENTED
    read_where: ClassVar[ReadWhere] = {
        "size_below": ("rule", ("size",)),
        "silhouette_above": ("rule", ("silhouette",)),
    }

    method: Literal["activation_clustering"]
    reduction: Literal["ica", "pca"] = Field(
        "ica",
        description="how the representations of a label's rows are reduced before they are clustered: independent "
        "(Chen et al.) or principal components",
    )
    dimensions: int = Field(
        10, gt=0, description="number of components, fewer than the rows of any label (Chen et al.: 10)"
    )
    rule: Literal["smaller", "size", "silhouette"] = Field(
        "size",
        description="when the smaller cluster of a label is dropped: smaller: always, also where no row is poisoned "
        "(CodePurify); size: if its share of the label's rows is below size_below; silhouette: if the mean silhouette "
        "of the rows is above silhouette_above, that is, if two clusters describe them well (both Chen et al.)",
    )
    size_below: float = Field(
        0.35,
        ge=0,
        le=0.5,
        description="share of a label's rows below which the smaller cluster is dropped (the authors' library: 0.35; "
        "two clusters of clean rows have about the same size); 0 drops nothing",
    )
    silhouette_above: float = Field(
        0.1,
        ge=-1,
        le=1,
        description="mean silhouette above which the smaller cluster is dropped (Chen et al.: 0.10 to 0.15); 1 drops "
        "nothing",
    )

    def work(self, job: FilteringJob) -> Work:
        return represented_once(job)
