"""Settings of backdoor keyword identification."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor.config.base import Head, Reference
from codebackdoor.costs.work import FilteringJob, Work
from codebackdoor.defenses.filtering.settings import REPRESENTED, VictimFilterSettings
from codebackdoor.heads import HEADS


class BkiSettings(VictimFilterSettings):
    """Drops rows with the word that changes the victim's states most over many rows (Chen and Dai 2021)."""

    label: ClassVar[str] = "BKI"
    reference: ClassVar[Reference | None] = Reference(
        authors="Chuanshuai Chen, Jiazhu Dai",
        year=2021,
        title="Mitigating backdoor attacks in LSTM-based Text Classification Systems by Backdoor Keyword "
        "Identification",
        url="https://arxiv.org/abs/2007.12070",
    )
    fits: ClassVar[tuple[Head, ...]] = REPRESENTED

    method: Literal["bki"]
    unit: Literal["word", "sub_token"] = Field(
        "word",
        description="what is removed: a word between white space (the experiments of DeCE's paper), or a sub-token of "
        "the victim, which also finds a trigger that is a part of many names",
    )
    top: int = Field(
        5,
        gt=0,
        description="number of top words of each row, whose removal changes the victim's state most (the experiments "
        "of DeCE's paper: 5)",
    )
    keywords: int = Field(
        1,
        ge=0,
        description="number of keywords of each group of rows (the experiments of DeCE's paper: 1); 0 drops nothing",
    )
    groups: Literal["all", "label"] = Field(
        "all",
        description="rows over which a word's statistic is computed. all: all rows (the experiments of DeCE's paper). "
        "label: the rows of each label, with separate keywords (generation: all rows)",
    )
    frequency: Literal["log10", "count"] = Field(
        "log10",
        description="what the mean change by a word is multiplied by: the logarithm of the number of rows that have it "
        "among their top words (the experiments of DeCE's paper), or the number itself",
    )
    change: Literal["largest", "length"] = Field(
        "largest",
        description="change of a state when a word is removed: the largest of its components (the experiments of "
        "DeCE's paper), or the Euclidean length",
    )

    def work(self, job: FilteringJob) -> Work:
        """One forward pass for each row and for each of its words, taken to be two sub-tokens long."""
        victim = job.victim
        passes = job.rows * (1 + victim.texts.tokens / 2)
        if HEADS[victim.dataset.head].generates:
            return Work(predicted=passes * victim.size.forward(victim.tokens))
        return Work(predicted=passes * victim.forward)
