"""The cost of one job of each method at the papers' scale, for the table of methods."""

from __future__ import annotations

from functools import cache
from typing import Any

from codebackdoor.config.models import CodeBert
from codebackdoor.costs import jobs
from codebackdoor.costs.bill import A100, sizes, texts_by_original
from codebackdoor.costs.work import NotPriced, PlannedVictim, Work
from codebackdoor.tasks.defect_detection.settings import DefectDetection

#: EliBadCode's share of poisoned rows (section 5.1).
_RATE = 0.02


def gpu_minutes(kind: str, settings: Any) -> float | None:
    """A100 minutes of one job with these settings on CodeBERT in defect detection; None if the method is not priced.

    The victim is EliBadCode's: CodeBERT-base, fine-tuned for five epochs on Devign.
    """
    try:
        return 60 * A100.hours(_work(kind, settings), "bfloat16")
    except NotPriced:
        return None


def _work(kind: str, settings: Any) -> Work:
    victim = _victim()
    if kind == "attack":
        return jobs.poison(victim, settings, _RATE, victim)
    if kind == "filtering":
        return jobs.filtering(sizes()["gpt2"], victim, settings, None, _RATE)
    if kind == "objective":
        return jobs.train(victim, None, settings)
    if kind == "elimination":
        return jobs.eliminate(victim, settings)
    return jobs.purify(victim, settings, [victim.clean("test")], sizes()["gpt2"])


@cache
def _victim() -> PlannedVictim:
    model = CodeBert.model_validate({"architecture": "codebert", "max_length": 400, "epochs": 5})
    dataset = DefectDetection(task="defect_detection", source="mirror", language="c", train=None, valid=None, test=None)
    return PlannedVictim(sizes()["codebert"], texts_by_original()["devign"], model, dataset)
