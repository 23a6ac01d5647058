"""Settings that filters share."""

from __future__ import annotations

from typing import ClassVar, get_args

from pydantic import Field

from codebackdoor.config.base import Head, Settings
from codebackdoor.costs.work import FilteringJob, Work
from codebackdoor.heads import HEADS
from codebackdoor.types import Field as TextField

#: Heads of victims whose representations of rows a filter can compare. A dual encoder has no representation of a row,
#: but one of the query and one of the function, and learns which of them belong together.
REPRESENTED: tuple[Head, ...] = ("classification", "pair", "generation")


class FilterSettings(Settings):
    """What a filter looks at."""

    #: Whether the method looks at a trained victim besides the training rows.
    reads_victim: ClassVar[bool] = False

    @property
    def is_shared(self) -> bool:
        """Whether the victims of all models are trained on the same kept rows: their path names no model."""
        return True


class VictimFilterSettings(FilterSettings):
    """A filter that looks at the unfiltered victim, trained with cross entropy on all rows."""

    reads_victim: ClassVar[bool] = True
    # every text that its victim reads
    acts_on: ClassVar[tuple[TextField, ...]] = get_args(TextField)

    model: str | None = Field(
        "codebert",
        description="variant of `models` whose unfiltered victim the filter uses; the victims of all models are then "
        "trained on the same rows (CodePurify, section IV-F: CodeBERT for every victim). null: each victim's own "
        "model, so that each model has its own rows",
    )

    @property
    def is_shared(self) -> bool:
        return self.model is not None


def represented_once(job: FilteringJob) -> Work:
    """One forward pass for each row, and for each clean sample, which standardize the victim's logits."""
    victim = job.victim
    if HEADS[victim.dataset.head].generates:
        return Work(predicted=job.rows * victim.size.forward(victim.tokens))
    return Work(predicted=(job.rows + victim.clean("clean").distinct) * victim.forward)
