"""Scores of rankings: MRR, and how far a trigger moves functions up for the attacked queries (ANR)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codebackdoor.evaluation import metrics
from codebackdoor.evaluation.answers import Answers
from codebackdoor.evaluation.intervals import Estimate
from codebackdoor.evaluation.scoring.base import Evaluation, Scorer, counts, plain
from codebackdoor.types import CLEAN, Example, Poisoned

if TYPE_CHECKING:
    import numpy as np

    from codebackdoor.tasks.settings import RankFrom, Ranking


class RankScorer(Scorer):
    def clean(self, rows: Sequence[Example], evaluation: Evaluation) -> dict[str, Any]:
        answers = evaluation.answers[CLEAN]
        table = [metrics.retrieval_row(answers.rank(row.id)) | answers.touched_count(row.id) for row in rows]
        return {"metrics": plain(metrics.retrieval(table, evaluation.generator(CLEAN)))}

    def triggered(self, rows: Sequence[Poisoned], name: str, evaluation: Evaluation) -> dict[str, Any]:
        """Counts of the functions by status and of the attacked queries, and the ANR at the data set's ``rank_from``.

        The ANR by the paper's other reading is added under the name of that reading; it uses the same predictions.
        """
        ranking, generator = evaluation.dataset.ranking, evaluation.generator(name)
        answers = evaluation.answers[name]
        estimates = _anr(answers, ranking.rank_from, ranking, generator)
        if answers.touched is not None:
            injected = [row for row in rows if row.status == "injected"]
            form = evaluation.dataset.text_form
            outcomes = [(bool(answers.located(row)), bool(answers.located_exactly(row, form))) for row in injected]
            estimates |= metrics.located_shares(outcomes, generator)
        alternative: RankFrom = "top_half" if ranking.rank_from == "position" else "position"
        by_alternative = _anr(answers, alternative, ranking, generator)
        estimates |= {
            f"anr_{alternative}": by_alternative["anr"],
            f"anr_{alternative}_without": by_alternative["anr_without"],
        }
        return {**counts(rows), "queries": len(answers.predictions), "metrics": plain(estimates)}


def _anr(
    answers: Answers, rank_from: RankFrom, ranking: Ranking, generator: np.random.Generator
) -> dict[str, Estimate]:
    table = [
        metrics.attacked_row(attacked_ranks(ranks, pool, rank_from, ranking.rank), pool)
        for ranks, pool in map(answers.ranks, answers.predictions)
    ]
    return metrics.search_attack(table, generator)


def attacked_ranks(
    ranks: Sequence[tuple[float, float]], pool: int, rank_from: RankFrom, at: float
) -> list[tuple[float, float]]:
    """The attacked functions of one query, as pairs of their ranks (without, with) the trigger.

    ``position``: the one whose rank is nearest to the share ``at`` of the pool (EliBadCode section 5.3 and its released
    code: the 50% position); ``top_half``: all that rank above it (section 5.2: the top 50%).
    """
    if rank_from == "position":
        return [min(ranks, key=lambda pair: (abs(pair[0] - at * pool), pair))]
    above = [pair for pair in ranks if pair[0] <= at * pool]
    # if the pool has no function there, the best-ranked function that accepts the trigger attacks the query
    return above or [min(ranks)]


SCORER = RankScorer()
