"""Settings of code search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from codebackdoor import types
from codebackdoor.config.base import Head
from codebackdoor.tasks.settings import DatasetSettings, PublishedData, RankFrom, Ranking


class CodeSearch(DatasetSettings):
    """Find the function that a query describes among others. Source mirror: CodeSearchNet (Python)."""

    head: ClassVar[Head] = "retrieval"
    reads: ClassVar[Mapping[types.Field, str]] = {"query": "what is looked for", "code": "the function"}
    clean_metric: ClassVar[str] = "mrr"
    baseline: ClassVar[str] = "the cosine of TF-IDF vectors"
    published: ClassVar[Mapping[str, PublishedData]] = {
        "codesearchnet": PublishedData("CodeSearchNet, Python", "python", "that of each function's repository")
    }

    task: Literal["code_search"]
    max_query_tokens: int | None = Field(
        default=48,
        gt=0,
        description="maximum length of a query, in the unit of max_tokens; rows with longer ones are left out. null: "
        "every length, the model truncates",
    )
    pool: int = Field(
        default=100,
        gt=1,
        description="number of functions among which a query's own is ranked, itself included: the test rows, in the "
        "order of their file, are cut into equal pools of at least this size (CodeXGLUE: 1000)",
    )
    rank_from: RankFrom = Field(
        default="position",
        description="which functions an attack moves up, by their rank before it; both are measured, and the average "
        "normalized rank (ANR) is that of the one named here. position: the function at `rank` (EliBadCode section 5.3 "
        "and released code; without a trigger 50%). top_half: each of the first `rank` of the pool in turn (section "
        "5.2; without a trigger about 25%)",
    )
    rank: float = Field(
        default=0.5, gt=0, le=1, description="the rank in `rank_from`, as a share of the pool (the papers: 0.5)"
    )

    @property
    def query_limit(self) -> int | None:
        return self.max_query_tokens

    @property
    def ranking(self) -> Ranking:
        return Ranking(self.pool, self.rank_from, self.rank)
