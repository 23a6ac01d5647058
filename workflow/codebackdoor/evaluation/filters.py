"""How well a filter tells poisoned training rows from clean ones, which only the evaluation knows.

The rows with a trigger are poisoned. *Precision*: share of dropped rows that are poisoned. *Recall*: share of poisoned
rows that are dropped. *FPR*: share of clean rows that are dropped. *NPV*: share of kept rows that are clean. *AUROC*:
how often a poisoned row is more suspicious than a clean one with the same label (scores of different labels need not be
comparable); ties count half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from codebackdoor import files
from codebackdoor.config.scenario import AUDITED
from codebackdoor.errors import UserError
from codebackdoor.evaluation.intervals import Estimate
from codebackdoor.evaluation.significance import share_interval
from codebackdoor.types import Poisoned

#: 97.5% quantile of the normal distribution.
_NORMAL = 1.959964


def audit(train: Path, judged: Path, out: Path) -> None:
    """Write ``out/filter.json``: each metric of the verdicts in ``judged`` on the rows of ``train``, with its interval.

    Shares are in [0, 1]; an undefined value is null with n = 0. Raises UserError if the files have different rows.
    """
    rows, verdicts = files.read_mixed(train), [row for _, row in files.read_rows(judged)]
    ids = [row.example.id if isinstance(row, Poisoned) else row.id for row in rows]
    if ids != [verdict.get("id") for verdict in verdicts]:
        raise UserError(f"{judged}: not the verdicts on the rows of {train}; have the run make both again")
    poisoned = np.array([isinstance(row, Poisoned) and row.status == "injected" for row in rows], dtype=bool)
    dropped = np.array([bool(verdict["dropped"]) for verdict in verdicts], dtype=bool)
    labels = [row.example.label if isinstance(row, Poisoned) else row.label for row in rows]
    scores = np.array([_number(verdict.get("suspicion")) for verdict in verdicts])
    estimates = filter_metrics(poisoned, dropped) | {"auroc": auroc_by_label(scores, poisoned, labels)}
    counts = {"all": len(rows), "poisoned": int(poisoned.sum()), "dropped": int(dropped.sum())}
    metrics = {name: asdict(estimate) for name, estimate in estimates.items()}
    files.write_json(out / AUDITED, {"rows": counts, "metrics": metrics})


def _number(suspicion: float | None) -> float:
    """The score as a number; a row without a score is never dropped."""
    return -math.inf if suspicion is None else float(suspicion)


def filter_metrics(poisoned: NDArray[np.bool_], dropped: NDArray[np.bool_]) -> dict[str, Estimate]:
    """The shares with exact intervals, given which of N rows are poisoned and which are dropped."""
    return {
        "dropped": _share(dropped, np.ones_like(dropped)),
        "precision": _share(poisoned, dropped),
        "recall": _share(dropped, poisoned),
        "fpr": _share(dropped, ~poisoned),
        "npv": _share(~poisoned, ~dropped),
    }


def _share(hits: NDArray[np.bool_], among: NDArray[np.bool_]) -> Estimate:
    count, n = int((hits & among).sum()), int(among.sum())
    if not n:
        return Estimate(None, None, None, 0)
    return Estimate(count / n, *share_interval(count, n), n)


def auroc_by_label(scores: NDArray[np.float64], poisoned: NDArray[np.bool_], labels: Sequence[int | None]) -> Estimate:
    """Area under the ROC curve over pairs with the same label, with the interval of DeLong et al. (1988).

    ``scores`` [N]: higher is more suspicious. ``n``: number of poisoned rows; None if no pair shares a label.
    """
    groups = np.array([-1 if label is None else label for label in labels])
    area = variance = pairs = 0.0
    rows = 0
    for label in np.unique(groups):
        positive, negative = (scores[(groups == label) & side] for side in (poisoned, ~poisoned))
        weight = float(len(positive) * len(negative))
        if weight:
            placements = _placements(positive, negative)
            area += weight * float(placements[0].mean())
            variance += weight**2 * sum(float(part.var(ddof=min(1, len(part) - 1))) / len(part) for part in placements)
            pairs, rows = pairs + weight, rows + len(positive)
    if not pairs:
        return Estimate(None, None, None, 0)
    value, margin = area / pairs, _NORMAL * math.sqrt(variance) / pairs
    return Estimate(value, max(0.0, value - margin), min(1.0, value + margin), rows)


def _placements(
    positive: NDArray[np.float64], negative: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share of negative scores below each positive one, and of positive scores above each negative one.

    Ties count half.
    """
    ranks = rankdata(np.concatenate([positive, negative]))
    below = (ranks[: len(positive)] - rankdata(positive)) / len(negative)
    above = 1 - (ranks[len(positive) :] - rankdata(negative)) / len(positive)
    return below, above
